"""What are models, versions, aliases, stages and approvals, and which changes of them are allowed? Pure."""
