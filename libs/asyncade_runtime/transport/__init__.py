"""The four socket roles, over ZeroMQ and in memory: addresses, keys, connection events."""
