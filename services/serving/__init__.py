"""Serving: deployments, predictions, rollouts."""
