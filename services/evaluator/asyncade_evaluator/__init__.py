"""The evaluator: plays whole games by the learner's weights and says how good they are."""
