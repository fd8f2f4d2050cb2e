"""What the monitor decides, without I/O."""
