"""The sequence grows link by link, and a link that says anything else than what follows is refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from chain_kit import SEALED_AT, START, adding, compacted, compacting, follow, part
from store_kit import STORE_ID, WRITERS

from eventstore import IntegrityError
from eventstore.chain import Chain, SealedSegments, Snapshot
from eventstore.seal import GENESIS, Seal
from eventstore.segment import KindCount, WriterRun

PARTS = (part("abc"), part("de", writer=1))
SEAL = adding(START, *PARTS)
ONE = follow(START, SEAL)
SECOND = adding(ONE, part("f", first=3), part("gh", writer=2))
TWO = follow(ONE, SECOND)


def _facts(snapshot: Snapshot) -> tuple[Any, ...]:
    return (
        snapshot.number,
        snapshot.digest,
        snapshot.peaks.size,
        snapshot.peaks.peaks,
        snapshot.entries,
        snapshot.sealed_at,
        list(snapshot.segments),
        dict(snapshot.writers),
    )


def test_the_sequence_grows_link_by_link() -> None:
    """Segments, writers' ends, size and digest follow from the seals."""
    assert _facts(TWO) == _facts(follow(START, SEAL, SECOND))
    assert (TWO.number, TWO.peaks.size, TWO.sealed_at) == (2, 8, SEALED_AT)
    assert TWO.writers == {WRITERS[0]: 4, WRITERS[1]: 2, WRITERS[2]: 2}
    assert [segment.first_position for segment in TWO.segments] == [0, 3, 5, 6]
    assert [TWO.segments.at(position).first_position for position in range(8)] == [0, 0, 0, 3, 3, 5, 6, 6]


@pytest.mark.parametrize(
    "seal",
    [
        replace(SEAL, number=2),
        replace(SEAL, previous="f" * 64),
        replace(SEAL, store_id="cd" * 16),
        replace(SEAL, size=6),
        replace(SEAL, segments=SEAL.segments[::-1]),
        replace(SEAL, segments=SEAL.segments[:1]),
        replace(SEAL, entries=GENESIS),
        adding(START, part("abc", first=1)),
        adding(START, PARTS[0], PARTS[0]),
        adding(START, PARTS[0], place=lambda segment: replace(segment, first_position=1)),
        adding(
            START,
            PARTS[0],
            place=lambda segment: replace(segment, writers=(replace(segment.run, count=4),)),
        ),
    ],
    ids=[
        "number",
        "previous",
        "store",
        "size",
        "order",
        "missing",
        "entries",
        "gap in sequences",
        "repeat",
        "gap in positions",
        "more than it has",
    ],
)
def test_a_seal_that_does_not_follow_is_damage(seal: Seal) -> None:
    """Number, chain, store, positions, sequences and entries are all checked, and nothing is taken over."""
    chain = Chain(STORE_ID)
    with pytest.raises(IntegrityError) as caught:
        chain.follow(seal.encode()[0], seal)
    assert caught.value.code == "seal_damaged"
    assert (chain.number, chain.peaks.size, chain.writers, len(chain.segments)) == (0, 0, {}, 0)
    with pytest.raises(IntegrityError):
        follow(START, seal)


@pytest.mark.parametrize(
    ("sealed_at", "follows"),
    [
        ("2024-05-06T07:08:09+00:00", True),
        ("2024-05-06T08:08:09+01:00", True),
        ("2024-05-06T07:08:08.999999+00:00", False),
        ("2024-05-06T07:08:09+01:00", False),
    ],
)
def test_time_never_goes_back_along_the_chain(sealed_at: str, follows: bool) -> None:
    """Else nobody could say where the log stood at a moment; equal moments in other zones are equal."""
    seal = replace(SECOND, sealed_at=sealed_at)
    if follows:
        assert follow(ONE, seal).sealed_at == sealed_at
    else:
        with pytest.raises(IntegrityError, match="the seal before it of"):
            follow(ONE, seal)


def test_entries_are_the_digest_of_the_segments_one_by_one() -> None:
    """As the format says: the text before, then the JSON of the next segment as it stands in the seal."""
    before = "0" * 64
    for seal in (SEAL, SECOND):
        for said in json.loads(seal.encode()[1])["seal"]["segments"]:
            text = json.dumps(said, sort_keys=True, separators=(",", ":"))
            before = hashlib.sha256((before + text).encode()).hexdigest()
        assert seal.entries == before


def test_what_has_grown_is_not_seen_by_who_holds_less() -> None:
    """One list serves all that grew from one another, and two ways to go on do not meet."""
    first, second, third = (part("x", first=number)[0] for number in range(3))
    none = SealedSegments()
    one = none.then([first])
    two = one.then([second]).then([])
    other = one.then([third])
    assert [list(one), list(two), list(other)] == [[first], [first, second], [first, third]]
    assert [len(none), len(one), len(two)] == [0, 1, 2]
    assert (two[-1], two[1:], two[::-1], one[:5]) == (second, [second], [second, first], [first])
    assert one.entries != two.entries != other.entries
    assert (none.entries, one == SealedSegments().then([first])) == (GENESIS, True)
    with pytest.raises(IndexError):
        one[1]
    assert two._segments is one._segments


# compaction -----------------------------------------------------------------------------------------------


def test_a_compacted_segment_takes_the_place_of_others() -> None:
    """Positions, size, root and writers stay; facts are those of all it stands for; the digest is anew."""
    new = compacted(TWO, 0, 3)
    three = follow(TWO, compacting(TWO, new))
    assert list(three.segments) == [new, TWO.segments[3]]
    assert (three.peaks.size, three.peaks.root(), three.writers) == (8, TWO.peaks.root(), TWO.writers)
    assert new.writers == (WriterRun(WRITERS[0], 0, 4), WriterRun(WRITERS[1], 0, 2))
    assert (new.count, new.kinds) == (6, (KindCount("execution.heartbeat", 1, 6),))
    assert three.entries == SealedSegments().then([new, TWO.segments[3]]).entries
    assert TWO.segments[0].path == PARTS[0][0].path
    four = follow(three, adding(three, part("z", first=4)))
    again = compacted(four, 0, 3, digest="d" * 64)
    assert list(follow(four, compacting(four, again)).segments) == [again]


def test_several_may_be_compacted_by_one_seal() -> None:
    """Each stands in its own place."""
    first, second = compacted(TWO, 0, 2), compacted(TWO, 2, 4, digest="d" * 64)
    assert list(follow(TWO, compacting(TWO, first, second)).segments) == [first, second]


NEW = compacted(TWO, 0, 3)
GOOD = compacting(TWO, NEW)


def _instead(**changes: Any) -> Seal:
    """A seal whose compacted segment says something else, with entries that fit."""
    listed = SealedSegments().then([replace(NEW, **changes), TWO.segments[3]])
    return replace(GOOD, compacted=(replace(NEW, **changes),), entries=listed.entries)


@pytest.mark.parametrize(
    "seal",
    [
        replace(GOOD, segments=SECOND.segments),
        replace(GOOD, entries=TWO.entries),
        replace(GOOD, size=9),
        replace(GOOD, peaks=(b"x" * 32,)),
        replace(GOOD, compacted=(NEW, NEW)),
        _instead(count=5),
        _instead(count=5, path=NEW.path.replace(f"{6:020d}", f"{5:020d}")),
        _instead(first_position=1),
        _instead(path=NEW.path.replace(f"{6:020d}", f"{7:020d}")),
        _instead(kinds=(KindCount("job.started", 1, 6),)),
        _instead(writers=NEW.writers[:1]),
        _instead(writers=NEW.writers[::-1]),
        _instead(recorded_from_us=0),
        _instead(recorded_to_us=2_000_000),
    ],
    ids=[
        "adds too",
        "entries",
        "size",
        "tree",
        "twice",
        "count",
        "half a segment",
        "position",
        "name",
        "kinds",
        "writers",
        "order of writers",
        "from",
        "to",
    ],
)
def test_a_seal_that_compacts_something_else_is_damage(seal: Seal) -> None:
    """Whatever can be computed from the segments that it replaces is compared."""
    with pytest.raises(IntegrityError) as caught:
        follow(TWO, seal)
    assert caught.value.code == "seal_damaged"


def test_what_is_not_there_is_not_replaced() -> None:
    """A compactor that comes late learns that its run is no longer made of the same segments."""
    three = follow(TWO, GOOD)
    for late in (compacted(TWO, 0, 2), compacted(TWO, 1, 4)):
        with pytest.raises(ValueError, match="is not what the segments with its positions are together"):
            three.segments.replaced(replace(late, digest="e" * 64))
