"""Who works on the queue: takes jobs, fetches their rows, has them trained, registers what comes of it."""
