"""The learner: takes in what actors send, trains, publishes weights, keeps checkpoints."""
