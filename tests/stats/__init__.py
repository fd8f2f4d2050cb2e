"""Statistics against their sources."""
