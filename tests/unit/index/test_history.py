"""Look-ups see own appends at once, those of others in time, and never an older answer than a newer one."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from store_kit import memory_url, open_store, value

from eventstore import EvaluationCached, EventStore, IntegrityError, NotFoundError, layout
from eventstore.local_files import LocalFiles

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
        store.lookup._log.fresh_seconds = store.lookup._log.look_seconds = 0.0
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
    store.lookup._log.fresh_seconds = 1e9
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
    second.lookup._log.fresh_seconds = 0.0
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


def test_not_known_may_be_a_moment_old(opened: Opener) -> None:
    """Within `fresh_seconds` the log is not read again, unless a journal of this machine went."""
    store, other = opened(), opened()
    other.lookup._log.fresh_seconds = 1e9
    _look(other)
    store.append(cached(V1))
    store.seal()
    assert other.lookup.evaluation(KEY) == (V1 if store.storage.abilities.local else None)
    other.lookup._log.fresh_seconds = 0.0
    assert other.lookup.evaluation(KEY) == V1


class _Stuck(LocalFiles):
    """Journals that cannot be removed."""

    def remove(self, path: Path) -> None:
        raise OSError(errno.EIO, "bad sector")


def test_a_journal_that_stays_behind_does_not_override_the_sealed_log(tmp_path: Path) -> None:
    """Its events are sealed; what was sealed after them is newer."""
    place = tmp_path / "store"
    first, second = open_store(place, local_files=_Stuck()), open_store(place)
    for store, name in ((first, V1), (second, V2)):
        store.append(cached(name))
        store.flush()
    assert len(list(tmp_path.rglob("*.jsonl"))) == 1
    with open_store(place, read_only=True) as reader:
        assert reader.lookup.evaluation(KEY) == V2


def test_what_was_taken_from_a_journal_gives_way_once_it_is_sealed(opened: Opener) -> None:
    """Also where it was never met again on its way: a later evaluation that is sealed replaces it."""
    first, second, reader = opened(), opened(), opened()
    first.append(cached(V1))
    if first.storage.abilities.local:
        assert reader.lookup.evaluation(KEY) == V1
    first.seal()
    second.append(cached(V2))
    second.seal()
    _look(reader)
    assert reader.lookup.evaluation(KEY) == V2


def test_a_miss_lists_segments_only_now_and_then(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless a journal shows that there must be one that is not known."""
    store, other = opened(), opened()
    other.lookup._log.look_seconds = 1e9
    listed: list[bool] = []
    real = other._sequence.unsealed
    monkeypatch.setattr(other._sequence, "unsealed", lambda **asked: listed.append(True) or real(**asked))
    for _ in range(5):
        _look(other)
    assert len(listed) == 1
    store.append(cached(V1))
    store.flush()
    for _ in range(3):
        _look(other)
    assert len(listed) == (2 if store.storage.abilities.local else 1)
    store.append(cached(V2, eval_hash=OTHER))
    if store.storage.abilities.local:
        assert other.lookup.evaluation(OTHER) == V2
        assert other.lookup.evaluation(KEY) == V1
    store.seal()
    assert other.lookup.evaluation(KEY) == V1
    assert other.lookup.evaluation(OTHER) == V2


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


@pytest.mark.parametrize("step", ["append", "flush", "seal"])
def test_bytes_that_were_let_go_are_read_again(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Of many values only facts are kept; the bytes come from wherever the events are."""
    for room in ("families", "value_bytes"):
        monkeypatch.setattr(f"eventstore.index.{room}.INLINE_BYTES", 8_192)
    monkeypatch.setattr("eventstore.index.following._MOST_BYTES", 20_000)
    monkeypatch.setattr("eventstore.index.value_bytes._MEMORY_BYTES", 40_000)
    store, other = opened(), opened()
    _look(store)
    hashes = [f"{number:040x}" for number in range(40)]
    for number, name in enumerate(hashes):
        store.append(value(name.encode() * (50 if number % 2 else 250), name))
        assert store.lookup._log.overlay.size_bytes <= 20_000 + 2_000
    if step != "append":
        getattr(store, step)()
    for reader in (store, other) if store.storage.abilities.local or step != "append" else (store,):
        for number, name in [*enumerate(hashes), *reversed(list(enumerate(hashes)))]:
            found = reader.lookup.value(name)
            assert found is not None
            assert found.data == name.encode() * (50 if number % 2 else 250)
        assert reader.lookup._bytes._size <= 40_000


def test_an_event_of_another_process_is_taken_from_its_journal_once(tmp_path: Path) -> None:
    """However often something is missed."""
    first, second = (open_store(tmp_path / "store", auto_seal=False) for _ in range(2))
    second.lookup._log.fresh_seconds = 0.0
    for number in range(6):
        first.append(value(b"x", f"{number:040x}"))
        _look(second)
        assert second.lookup._log.overlay.events == number + 1


def test_what_was_journaled_and_flushed_between_two_looks_is_seen(tmp_path: Path) -> None:
    """Also where nobody saw its journal: the answer does not wait for the next look at the seals."""
    place = tmp_path / "store"
    with open_store(place) as reader:
        reader.lookup._log.fresh_seconds = reader.lookup._log.look_seconds = 1e9
        for number in range(3):
            _look(reader)
            with open_store(place, auto_seal=False) as short:
                short.append(cached(V1, eval_hash=f"{number:040x}"))
            assert reader.lookup.evaluation(f"{number:040x}") == V1
