"""Actor-critic learning on tensors: environments, network, losses. It knows no sockets."""
