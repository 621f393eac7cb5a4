"""redun on an event store. Importing this lets redun take the path or URL of a store as ``db_uri``."""

from eventstore.redun.backend import EventStoreBackend
from eventstore.redun.choosing import setup_scheduler, teach_redun

__all__ = ["EventStoreBackend", "setup_scheduler"]

teach_redun()
