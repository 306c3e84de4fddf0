"""The relay: a learner to the actors of one node or zone, and one actor to the learner."""
