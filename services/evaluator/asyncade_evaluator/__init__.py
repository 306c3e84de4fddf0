"""The evaluator: plays whole games with the learner's weights and exports their returns."""
