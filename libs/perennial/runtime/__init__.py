"""What does every service stand on?

``service.run`` is a whole main(): configuration, telemetry, PostgreSQL with outbox and audit, the gRPC server with its
one wrapper, Kafka, leases, objects, peers and the stop order. A service's ``__main__`` composes its parts on the
:class:`~perennial.runtime.service.Runtime` it is given.
"""
