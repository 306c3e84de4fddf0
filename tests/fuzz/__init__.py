"""Coverage-guided fuzzing of everything that reads bytes of others, and its corpus.

`python -m fuzz` searches (`make fuzz`), `test_corpus.py` replays what the search has kept. Both run
the same targets, whose checks are assertions: a target ends normally, or something is wrong.
"""
