"""The data plane: what lies on the path of a prediction, all of it on this process's own disk and memory."""
