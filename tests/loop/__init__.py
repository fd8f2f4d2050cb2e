"""The loop as a whole, on a generated stream."""
