"""A harness for claims about learning; see `bench.recipe.__main__`."""
