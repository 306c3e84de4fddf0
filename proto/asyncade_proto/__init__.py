"""The wire between actors and learner. `proto/SPEC.md` is the law, `proto/vectors/` the proof."""
