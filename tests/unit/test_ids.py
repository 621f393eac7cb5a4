"""Ids: made, printed, parsed, ordered."""

from __future__ import annotations

import dataclasses
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import ids
from eventstore.errors import InvalidEventError
from eventstore.ids import EventId, WriterId, check_writer_id, new_writer_id

WRITER = "01jd9f3m0000000000000000zz"
writers = st.from_regex(ids.WRITER_PATTERN, fullmatch=True).map(WriterId)


def test_new_writer_ids_are_well_formed_and_differ() -> None:
    """A thousand new ids all pass the check, and no two are equal."""
    made = [new_writer_id() for _ in range(1000)]
    assert [check_writer_id(text) for text in made] == made
    assert len(set(made)) == 1000


def test_writer_ids_sort_by_the_millisecond_of_their_making(monkeypatch: pytest.MonkeyPatch) -> None:
    """An id made a millisecond later sorts after, whatever the random bits."""
    made = []
    for millisecond in range(1_700_000_000_000, 1_700_000_000_040):
        monkeypatch.setattr(time, "time_ns", lambda now=millisecond: now * 1_000_000)
        made.append(new_writer_id())
    assert made == sorted(made)


def test_a_writer_id_says_when_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ten characters are the Unix time in milliseconds, in base 32."""
    monkeypatch.setattr(time, "time_ns", lambda: 0x0123_4567_89AB * 1_000_000)
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    number = 0
    for character in new_writer_id()[:10]:
        number = number * 32 + alphabet.index(character)
    assert number == 0x0123_4567_89AB


@pytest.mark.parametrize(
    "text",
    [
        "",
        WRITER[:-1],
        WRITER + "0",
        WRITER.upper(),
        "8" + WRITER[1:],
        "i" + WRITER[1:],
        WRITER[:-1] + "u",
        WRITER[:-1] + "\n",
        "٣" * 26,
    ],
)
def test_what_is_no_writer_id_is_refused(text: str) -> None:
    """Wrong length, case, letters or range give ``bad_writer_id``, and the message shows the text."""
    with pytest.raises(InvalidEventError) as caught:
        check_writer_id(text)
    assert caught.value.code == "bad_writer_id"
    assert repr(text) in str(caught.value)


@given(writers, st.integers(0, 2**63 - 1))
def test_event_ids_parse_back(writer: WriterId, sequence: int) -> None:
    """What an event id prints, it reads."""
    event_id = EventId(writer, sequence)
    assert EventId.parse(str(event_id)) == event_id


@given(st.lists(st.tuples(writers, st.integers(0, 1000)), max_size=8))
def test_event_ids_sort_by_writer_then_number(pairs: list[tuple[WriterId, int]]) -> None:
    """Numbers compare as numbers, not as text."""
    assert sorted(EventId(*pair) for pair in pairs) == [EventId(*pair) for pair in sorted(pairs)]


@pytest.mark.parametrize(
    "text",
    [
        WRITER,
        f"{WRITER}-",
        f"{WRITER}--1",
        f"{WRITER}-1x",
        f"{WRITER}-007",
        f"{WRITER}-٣",
        f"{WRITER}-{'9' * 5000}",
        f"-{WRITER}-1",
        "short-1",
        f"{WRITER}-1\n",
    ],
)
def test_what_is_no_event_id_is_refused(text: str) -> None:
    """Anything but the printed form gives ``bad_event_id``: one event, one text."""
    with pytest.raises(InvalidEventError) as caught:
        EventId.parse(text)
    assert caught.value.code == "bad_event_id"


def test_event_ids_are_values() -> None:
    """Equal ids are one key, and an id does not change."""
    one, other = EventId(WriterId(WRITER), 1), EventId(WriterId(WRITER), 1)
    assert {one: "x"}[other] == "x"
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.sequence = 2  # type: ignore[misc]
