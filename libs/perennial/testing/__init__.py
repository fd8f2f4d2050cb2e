"""How is code that stands on Perennial tested? On the real servers, started once a test session.

``pytest_plugins = ["perennial.testing.plugin"]`` gives the fixtures ``stack``, ``platform`` and ``service_process``.
"""
