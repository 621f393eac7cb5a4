"""The one room with fsspec: whole-file put, put-if-absent, ranged read, listing, delete, and abilities.

A `Storage` is a root folder on any filesystem. Files appear whole or not at all; `create` is the only
operation that needs the filesystem's help, and `abilities` says whether that help is real. Foreign
exceptions become `StorageError` here, with credentials masked.
"""

from eventstore.filesystem.contract import TEMPORARY, Abilities, Entry, Storage
from eventstore.filesystem.failures import mask_url, storage_error
from eventstore.filesystem.storage import FsspecStorage, open_storage

__all__ = [
    "TEMPORARY",
    "Abilities",
    "Entry",
    "FsspecStorage",
    "Storage",
    "mask_url",
    "open_storage",
    "storage_error",
]
