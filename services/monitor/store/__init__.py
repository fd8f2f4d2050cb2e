"""The SQL of the monitor, a file a subject."""
