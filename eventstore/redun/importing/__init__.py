"""From redun's SQLite and PostgreSQL databases into a store: all that they say, as events."""

from eventstore.redun.importing.database import open_database
from eventstore.redun.importing.importing import ImportReport, import_database

__all__ = ["ImportReport", "import_database", "open_database"]
