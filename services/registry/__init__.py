"""The registry: models, their versions, stages, aliases, lineage, events and API keys."""
