"""The registry over real gRPC."""
