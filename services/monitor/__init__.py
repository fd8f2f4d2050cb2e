"""Drift, performance, the ledger, the prediction log and the retraining policy: what a model is worth once it is live."""
