"""A cluster on a virtual clock: the real learner and actors in one process (docs/scaling.md)."""
