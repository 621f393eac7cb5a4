"""Values come back as they were put, whatever they are and however they are stored."""

from __future__ import annotations

import uuid

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from eventstore.filesystem import FsspecStorage, open_storage
from eventstore.hashing import hash_tagged_bytes
from eventstore.value_store import RedunValueStore, ValueStore


@pytest.fixture(scope="module")
def storage() -> FsspecStorage:
    """A place in memory."""
    return open_storage(f"memory://{uuid.uuid4().hex}")


@pytest.fixture(scope="module")
def dictionary(storage: FsspecStorage) -> str:
    """A dictionary in it."""
    samples = [b'{"name": "sample %d", "tool": "aligner", "reads": %d}' % (n, n * n) for n in range(1000)]
    return ValueStore(storage).train(samples, size_bytes=2048)


alike = st.builds(lambda n, m: b'{"name": "sample %d", "reads": %d}' % (n, m), st.integers(), st.integers())


@given(
    values=st.lists(st.binary(max_size=300) | alike, max_size=8), level=st.integers(1, 9), use=st.booleans()
)
def test_what_was_put_is_got(
    storage: FsspecStorage, dictionary: str, values: list[bytes], level: int, use: bool
) -> None:
    """Any level, with a dictionary and without, gives the same names, and every store reads every value."""
    store = ValueStore(storage, level=level, dictionary=dictionary if use else None)
    digests = [store.put(value) for value in values]
    assert digests == [blake3(value).hexdigest() for value in values]
    assert [ValueStore(storage).get(digest) for digest in digests] == values
    assert set(digests) <= set(store)


@given(values=st.lists(st.binary(max_size=300), max_size=8), use_subdir=st.booleans())
def test_what_was_put_into_a_store_of_redun_is_got(values: list[bytes], use_subdir: bool) -> None:
    """Under its value hash, as it is."""
    store = RedunValueStore(open_storage(f"memory://{uuid.uuid4().hex}"), use_subdir=use_subdir)
    hashes = [hash_tagged_bytes("Value", value) for value in values]
    for value_hash, value in zip(hashes, values, strict=True):
        store.put(value_hash, value)
    assert [store.get(value_hash, plain=True) for value_hash in hashes] == values
    assert list(store) == sorted(set(hashes))
