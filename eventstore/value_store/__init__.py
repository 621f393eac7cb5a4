"""Large values as files: a store's own, named by digest, and those of redun, named by value hash."""

from eventstore.value_store.digest import data_digest
from eventstore.value_store.own import DICTIONARY_BYTES, DICTIONARY_LIMIT, ValueStore
from eventstore.value_store.redun import RedunValueStore

__all__ = ["DICTIONARY_BYTES", "DICTIONARY_LIMIT", "RedunValueStore", "ValueStore", "data_digest"]
