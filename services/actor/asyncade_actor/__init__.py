"""The actor: plays games with the newest weights and sends trajectories or gradients."""
