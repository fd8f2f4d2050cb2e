"""All tests stand on the real servers: see ``perennial.testing``."""

pytest_plugins = ["perennial.testing.plugin"]
