"""Where views, facts, entity states and training sets are kept."""
