"""How does a platform run on one machine, with nothing but packages?

Real servers (Apache Kafka, PostgreSQL, Valkey, an S3 server), each in a file of its own behind the small protocol of
:mod:`perennial.local.part`; ``supervisor`` keeps them and the services alive. Nothing here imports grpc: children are
started from this process, and grpc objects to a fork.
"""
