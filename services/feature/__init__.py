"""Feature views: declared once, read online as of a row's time, and joined point in time for training."""
