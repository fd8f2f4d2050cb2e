"""The command line of a platform: ``perennial``."""
