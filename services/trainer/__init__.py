"""Training jobs: the trainer service."""
