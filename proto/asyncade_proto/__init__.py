"""The wire protocol between actors and learner, as specified in `proto/SPEC.md`."""
