"""The control plane of rollouts: what is heard, and what is done about it."""
