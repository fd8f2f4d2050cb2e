"""The prediction log: immutable files, their manifest, and cuts of it."""
