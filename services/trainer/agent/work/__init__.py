"""What runs in a work process: rows, folds, fit, judgement, package."""
