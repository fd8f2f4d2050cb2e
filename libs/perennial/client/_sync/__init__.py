# Generated from ../_async by tools/unasync.py; do not edit.
"""The synchronous client, generated from ``_async``."""
