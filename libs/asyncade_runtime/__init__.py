"""The I/O floor: sockets, settings, health and logs of a service. Knows nothing of learning."""
