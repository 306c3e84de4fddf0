"""Actor-critic learning: environments, network, losses, optimiser. No sockets."""
