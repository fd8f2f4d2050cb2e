"""What a feature is worth at a time, as pure functions of the facts known then."""
