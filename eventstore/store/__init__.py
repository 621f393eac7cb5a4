"""One folder or bucket, opened: `EventStore` joins writer, sequence, reader, values and look-ups.

`event_store` opens, writes and closes; `reading` and `upkeep` hold its other methods, by what they are for.
"""

from eventstore.log.levels import Level, Receipt
from eventstore.store.event_store import STATE_VARIABLE, EventStore, software_name

__all__ = ["STATE_VARIABLE", "EventStore", "Level", "Receipt", "software_name"]
