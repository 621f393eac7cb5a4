"""Look-ups see own appends at once, those of others in time, and never an older answer than a newer one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from store_kit import memory_url, open_store, value

from eventstore import EvaluationCached, EventStore, IntegrityError, NotFoundError, layout

KEY, OTHER = "aa" * 20, "bb" * 20
V1, V2, V3 = "01" * 20, "02" * 20, "03" * 20

Opener = Callable[..., EventStore]


@pytest.fixture(params=["local", "memory"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens stores on one place whose look-ups never rest, and abandons them at the end."""
    place = tmp_path / "store" if request.param == "local" else memory_url()
    stores: list[EventStore] = []

    def open_one(**options: object) -> EventStore:
        store = open_store(place, **({"auto_seal": False} | options))
        store.lookup._fresh_seconds = 0.0
        stores.append(store)
        return store

    yield open_one
    for store in stores:
        store.abandon()


def cached(value_hash: str, eval_hash: str = KEY) -> EvaluationCached:
    """An evaluation that gave this value."""
    return EvaluationCached(eval_hash=eval_hash, task_hash=KEY, args_hash=KEY, value_hash=value_hash)


def _look(store: EventStore) -> None:
    """Make the look-up read what is new, which it does for what it does not know."""
    assert store.lookup.evaluation("ff" * 20) is None


def test_what_is_not_recorded_is_none(opened: Opener) -> None:
    """Of an empty store nothing is known."""
    lookup = opened().lookup
    assert lookup.evaluation(KEY) is None
    assert lookup.value(V1) is None
    assert not lookup.has_value(V1)


def test_own_appends_are_seen_at_once(opened: Opener) -> None:
    """Without flush, seal or look at the log."""
    store = opened()
    store.lookup._fresh_seconds = 1e9
    _look(store)
    store.append(cached(V1), value(b"one", V1))
    assert store.lookup.evaluation(KEY) == V1
    assert store.lookup.has_value(V1)
    found = store.lookup.value(V1)
    assert found is not None
    assert (found.type_name, found.data) == ("bytes", b"one")


@pytest.mark.parametrize("step", ["flush", "seal"])
def test_what_others_made_durable_or_sealed_is_seen(opened: Opener, step: str) -> None:
    """Another store's durable and sealed events answer, values with their bytes."""
    first, second = opened(), opened()
    _look(second)
    first.append(cached(V1), value(b"one", V1))
    getattr(first, step)()
    assert second.lookup.evaluation(KEY) == V1
    found = second.lookup.value(V1)
    assert found is not None
    assert found.data == b"one"


def test_what_others_of_this_machine_journaled_is_seen(tmp_path: Path) -> None:
    """Journals are read, line by line as they come."""
    first, second = (open_store(tmp_path / "store", auto_seal=False) for _ in range(2))
    second.lookup._fresh_seconds = 0.0
    for number, name in enumerate((V1, V2, V3)):
        first.append(cached(name), value(b"%d" % number, name))
        _look(second)
        assert second.lookup.evaluation(KEY) == name
        found = second.lookup.value(name)
        assert found is not None
        assert found.data == b"%d" % number


def test_a_later_evaluation_replaces_an_earlier_one(opened: Opener) -> None:
    """Wherever the two of them are: sealed, durable or just appended."""
    store, reader = opened(), opened()
    store.append(cached(V1))
    for step in ("seal", "flush"):
        getattr(store, step)()
        store.append(cached(V2))
        _look(store)
        assert store.lookup.evaluation(KEY) == V2
        store.append(cached(V1))
        _look(store)
        assert store.lookup.evaluation(KEY) == V1
    store.append(cached(V3))
    store.seal()
    _look(reader)
    assert reader.lookup.evaluation(KEY) == V3


def test_a_flushed_evaluation_does_not_replace_an_appended_one(opened: Opener) -> None:
    """What is durable and not sealed is older than what the same writer appended since."""
    store = opened()
    store.append(cached(V1))
    store.flush()
    store.append(cached(V2))
    for _ in range(3):
        _look(store)
        assert store.lookup.evaluation(KEY) == V2


def test_what_others_seal_does_not_replace_what_waits_to_be_sealed(opened: Opener) -> None:
    """Own events that are not sealed yet will stand behind what is sealed now."""
    first, second = opened(), opened()
    first.append(cached(V1))
    _look(first)
    second.append(cached(V2))
    second.seal()
    for _ in range(2):
        _look(first)
        assert first.lookup.evaluation(KEY) == V1
    first.seal()
    for store in (first, second):
        _look(store)
        assert store.lookup.evaluation(KEY) == V1


def test_the_first_recording_of_a_value_counts(opened: Opener) -> None:
    """A value is stated once for each hash; what comes later does not change it."""
    store, other = opened(), opened()
    store.append(value(b"first", V1))
    store.seal()
    store.append(value(b"again", V1))
    store.seal()
    for lookup in (store.lookup, other.lookup):
        found = lookup.value(V1)
        assert found is not None
        assert found.data == b"first"


def test_a_large_value_comes_from_the_value_store(opened: Opener) -> None:
    """The event names it; missing bytes are an error, not "unknown"."""
    store, other = opened(inline_limit=8), opened()
    store.append(value(b"0123456789", V1))
    store.seal()
    found = other.lookup.value(V1)
    assert found is not None
    assert found.data == b"0123456789"
    (digest,) = store.values
    store.storage.delete(layout.value_path(digest))
    with pytest.raises(NotFoundError) as caught:
        other.lookup.value(V1)
    assert caught.value.code == "value_missing"


def test_values_are_read_in_groups_and_few_groups_are_kept(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any value is found, however many groups of positions there are."""
    monkeypatch.setattr("eventstore.log.lookup._GROUP_POSITIONS", 4)
    monkeypatch.setattr("eventstore.log.lookup._CACHED_GROUPS", 2)
    store, other = opened(), opened()
    hashes = [f"{number:040x}" for number in range(20)]
    for start in range(0, 20, 5):
        store.append(*(value(name.encode(), name) for name in hashes[start : start + 5]))
        store.seal()
        for name in hashes[: start + 5 : 3]:
            found = other.lookup.value(name)
            assert found is not None
            assert found.data == name.encode()
    assert len(other.lookup._groups) == 2


def test_not_known_may_be_a_moment_old(opened: Opener) -> None:
    """Within `fresh_seconds` the log is not read again."""
    store, other = opened(), opened()
    other.lookup._fresh_seconds = 1e9
    _look(other)
    store.append(cached(V1))
    store.seal()
    assert other.lookup.evaluation(KEY) is None
    other.lookup._fresh_seconds = 0.0
    assert other.lookup.evaluation(KEY) == V1


def test_damage_is_an_error_and_not_unknown(tmp_path: Path) -> None:
    """A look-up that cannot read the log says so."""
    with open_store(tmp_path / "store") as store:
        store.append(cached(V1))
        store.seal()
    (path,) = (tmp_path / "store").rglob("*.parquet")
    path.write_bytes(path.read_bytes()[:-10])
    with open_store(tmp_path / "store") as store, pytest.raises(IntegrityError) as caught:
        store.lookup.evaluation(KEY)
    assert caught.value.code == "segment_damaged"
