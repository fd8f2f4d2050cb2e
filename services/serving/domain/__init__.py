"""What a deployment is and how a version gets into it; no I/O."""
