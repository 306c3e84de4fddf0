"""The learner: trains on what actors send, publishes weights, saves checkpoints."""
