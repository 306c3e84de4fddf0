"""The actor: plays games by the newest weights and tells the learner what happened."""
