"""The gateway: REST for every RPC of the platform, made from the descriptors."""
