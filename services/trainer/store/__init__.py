"""Jobs in PostgreSQL, and who waits for their changes."""

from services.trainer.store.jobs import DECISION, Jobs, page_token
from services.trainer.store.watch import LOOK_AGAIN_S, Watch

__all__ = ["DECISION", "LOOK_AGAIN_S", "Jobs", "Watch", "page_token"]
