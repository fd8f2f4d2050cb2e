"""Which route does a path belong to, and what does a status look like in HTTP? Pure."""
