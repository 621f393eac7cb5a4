"""Kinds by name: users' own come in, what could not be read back does not, old versions are upcast."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, ClassVar, Literal, NewType

import pytest
from pydantic import ConfigDict, Field, create_model

from eventstore.codec.rows import Row, fields_of, recorded_events, table_of
from eventstore.errors import IntegrityError, InvalidEventError
from eventstore.events import BUILT_IN, Event, JobStarted, Registry, default_registry, event_kind
from eventstore.events.envelope import Time
from eventstore.events.registry import AUDIT_FIELDS, SHARED_COLUMNS
from eventstore.ids import new_writer_id

A = "a" * 40
KIND = "lab.sample_measured"
SampleId = NewType("SampleId", str)


class Measured(Event):
    """A user's kind, with a shared column and fields of its own."""

    job_id: str
    sample: str
    microlitres: float = 1.0


def refused(model: type[Event], kind: str = KIND, **options: Any) -> InvalidEventError:
    """The error that registering `model` meets."""
    with pytest.raises(InvalidEventError) as caught:
        Registry().register(model, kind, **options)
    return caught.value


def round_trip(registry: Registry, event: Event, *, reader: Registry | None = None) -> Any:
    """The event as a reader with the registry `reader` sees it, by way of a segment's table."""
    event_type = registry.of(event)
    row = Row(
        event_type.kind,
        event_type.version,
        event_type.columns,
        fields_of(event_type, event),
        0,
        1_700_000_000,
    )
    table = table_of([row], writer=new_writer_id(), actor=None, software=None)
    (batch,) = table.to_batches()
    (recorded,) = recorded_events(batch, reader or registry)
    return recorded


def test_a_new_registry_knows_the_built_in_kinds_and_no_other() -> None:
    """Its kinds are those of the vocabulary, each with its model's fields as columns."""
    registry = Registry()
    assert {event_type.kind for event_type in registry} == {model.kind for model in BUILT_IN}
    for model in BUILT_IN:
        event_type = registry.get(model.kind)
        assert event_type is not None
        assert (event_type.model, event_type.built_in) == (model, True)
        assert {*event_type.columns, *AUDIT_FIELDS} == set(model.model_fields)


def test_a_registered_kind_comes_back_as_it_went_in() -> None:
    """A user's event is stored in its shared columns and a payload, and read as the same typed event."""
    registry = Registry()
    event_type = registry.register(Measured, KIND)
    assert (event_type.columns, event_type.built_in) == (("job_id", "payload"), False)
    event = Measured(job_id="j", sample="s", microlitres=2.5, reason="why")
    recorded = round_trip(registry, event)
    assert type(recorded.event) is Measured
    assert (recorded.kind, recorded.version) == (KIND, 1)
    expected = event.model_dump(exclude={"occurred_at"})
    assert recorded.event.model_dump(exclude={"occurred_at"}) == expected


def test_a_reader_without_the_model_gets_the_columns() -> None:
    """An unknown kind is no error: its event is the mapping of what is stored."""
    registry = Registry()
    registry.register(Measured, KIND)
    recorded = round_trip(registry, Measured(job_id="j", sample="s"), reader=Registry())
    assert recorded.event["job_id"] == "j"
    assert recorded.event["payload"] == '{"microlitres":1.0,"sample":"s"}'


def test_the_decorator_registers_where_it_is_told() -> None:
    """`event_kind` gives the model back, known to that registry and not to the default one."""
    registry = Registry()

    @event_kind("lab.plate_moved", registry=registry)
    class PlateMoved(Event):
        """A plate moved."""

    assert (PlateMoved.kind, PlateMoved.version) == ("lab.plate_moved", 1)
    assert "lab.plate_moved" in registry
    assert "lab.plate_moved" not in default_registry


@pytest.mark.parametrize(
    "kind",
    ["", "lab", "Lab.measured", "lab.", ".lab", "lab..x", "lab.9x", "lab-x.y", "lab.x\n", "lab.x y", "läb.x"],
)
def test_a_malformed_kind_is_refused(kind: str) -> None:
    """A kind is lower-case words joined by dots; anything else is ``bad_kind``."""
    error = refused(Measured, kind)
    assert (error.code, error.kind) == ("bad_kind", kind)
    assert repr(kind) in str(error)


@pytest.mark.parametrize(
    "word", [*sorted({model.kind.partition(".")[0] for model in BUILT_IN}), "store", "event"]
)
def test_the_built_in_words_are_reserved(word: str) -> None:
    """No user's kind begins with the first word of a built-in one, so later kinds cannot collide."""
    error = refused(Measured, f"{word}.of_mine")
    assert error.code == "reserved_kind"
    assert "choose another first word" in str(error)


def test_a_taken_kind_is_refused_and_stays() -> None:
    """A second model cannot have the kind of the first, which is still known afterwards."""
    registry = Registry()
    registry.register(Measured, KIND)

    class Other(Event):
        """Another model."""

    with pytest.raises(InvalidEventError, match="registered for Measured already") as caught:
        registry.register(Other, KIND)
    assert caught.value.code == "kind_taken"
    assert registry.of(Measured(job_id="j", sample="s")).model is Measured


@pytest.mark.parametrize(
    ("version", "steps"), [(0, []), (2, []), (3, [1]), (3, [2]), (2, [1, 2]), (1, [1]), (3, [0, 1, 2])]
)
def test_each_step_between_versions_is_needed_exactly_once(version: int, steps: list[int]) -> None:
    """Version n needs the upcasters 1 to n - 1 and no other."""
    error = refused(Measured, version=version, upcasters=dict.fromkeys(steps, dict))
    assert error.code == "missing_upcaster"
    assert str(sorted(steps)) in str(error)


def test_an_event_of_an_unregistered_model_is_refused() -> None:
    """A model without a kind, and a subclass of a model that has one, are ``unknown_kind``."""

    class Loose(Event):
        """Never registered."""

    class Special(JobStarted):
        """Has a kind only by inheritance."""

    for event in (Loose(), Special(job_id="j", execution_id="e", task_hash=A), Event()):
        with pytest.raises(InvalidEventError, match="register its model") as caught:
            Registry().of(event)
        assert caught.value.code == "unknown_kind"


class Loud(Event):
    """Would keep more than its fields."""

    model_config = ConfigDict(extra="allow")


class Numbered(Event):
    """A shared column that is no text."""

    job_id: int


class MaybeNumbered(Event):
    """A shared column that is not always text."""

    task_hash: Annotated[str | int, Field(union_mode="smart")] = ""


class Timed(Event):
    """A time that need not have a timezone."""

    occurred_at: dt.datetime  # type: ignore[assignment]


class Hidden(Event):
    """A field that is not dumped."""

    sample: str = Field(default="", exclude=True)


class Aliased(Event):
    """A field that is written under one name and read under another."""

    sample: str = Field(alias="Sample")


with pytest.warns(UserWarning, match="shadows"):

    class Versioned(Event):
        """A field in the place of the event's own version."""

        version: int = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("model", "field"),
    [
        (Loud, "extra"),
        (Numbered, "job_id"),
        (MaybeNumbered, "task_hash"),
        (Timed, "occurred_at"),
        (Hidden, "sample"),
        (Aliased, "sample"),
        (Versioned, "version"),
    ],
)
def test_a_model_that_could_not_be_read_back_is_refused(model: type[Event], field: str) -> None:
    """Fields that storing would lose or choke on are an error at registration, not at the first flush."""
    error = refused(model)
    assert (error.code, error.field) == ("bad_field", field)
    assert model.__qualname__ in str(error)


class Textual(Event):
    """All the ways in which a shared column may be text."""

    job_id: str | None = None
    stream: SampleId
    task_hash: Annotated[str, Field(min_length=1)] | None = None
    value_hash: Literal["a", "b"] = "a"
    sample: str = Field(default="x", alias="Sample")
    model_config = ConfigDict(validate_by_name=True, validate_by_alias=False)


def test_text_in_any_dress_fills_a_shared_column() -> None:
    """Optional, constrained, literal and renamed text types are text, and come back."""
    registry = Registry()
    assert registry.register(Textual, KIND).columns == (
        "job_id",
        "stream",
        "task_hash",
        "value_hash",
        "payload",
    )
    recorded = round_trip(registry, Textual(stream=SampleId("s"), sample="y"))
    assert (recorded.event.stream, recorded.event.value_hash, recorded.event.sample) == ("s", "a", "y")


class Punctual(Event):
    """What every event may say, and this one must."""

    occurred_at: Time
    reason: Literal["calibration"]


def test_an_audit_field_may_be_required() -> None:
    """A model may insist on what every event has, in the same type."""
    registry = Registry()
    registry.register(Punctual, KIND)
    event = Punctual(occurred_at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC), reason="calibration")
    recorded = round_trip(registry, event)
    assert (recorded.event.occurred_at, recorded.event.reason) == (event.occurred_at, "calibration")


class Varied(Event):
    """Fields of many types."""

    at: dt.datetime
    raw: bytes
    words: tuple[str, ...] = ()
    by_name: dict[str, float] = {}
    kind_of: ClassVar[str] = "none"


def test_fields_of_many_types_come_back() -> None:
    """Times, bytes, tuples and mappings survive the JSON of the payload."""
    registry = Registry()
    registry.register(Varied, KIND)
    event = Varied(
        at=dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC),
        raw=bytes(range(256)),
        words=("a", "é"),
        by_name={"x": 0.1},
    )
    assert round_trip(registry, event).event.model_dump(exclude={"occurred_at"}) == event.model_dump(
        exclude={"occurred_at"}
    )


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_has_not_are_refused_at_the_door(number: float) -> None:
    """NaN and the infinities would come back as null, so no event holds them."""
    with pytest.raises(InvalidEventError) as caught:
        Measured(job_id="j", sample="s", microlitres=number)
    assert (caught.value.code, caught.value.field) == ("bad_value", "microlitres")


class Counted(Event):
    """A field without a bound."""

    count: int


def test_a_number_beyond_64_bits_is_refused_before_it_is_stored() -> None:
    """What the payload cannot hold is our error with a next step, not the JSON library's."""
    registry = Registry()
    event_type = registry.register(Counted, KIND)
    with pytest.raises(InvalidEventError, match="give it as text") as caught:
        fields_of(event_type, Counted(count=2**70))
    assert caught.value.code == "not_json"


class MeasuredV1(Event):
    """As it was: microlitres as text."""

    sample: str
    volume: str


class MeasuredV3(Event):
    """As it is: millilitres, and a stream."""

    sample: str
    millilitres: float
    stream: str


UPCASTERS = {
    1: lambda fields: {"sample": fields["sample"], "microlitres": float(fields["volume"])},
    2: lambda fields: {
        "sample": fields["sample"],
        "millilitres": fields["microlitres"] / 1000,
        "stream": "sample:" + fields["sample"],
    },
}


def test_an_old_event_is_read_in_today_s_shape() -> None:
    """A version 1 row takes the steps to 2 and 3 in order, and is a typed event of version 3."""
    then, today = Registry(), Registry()
    then.register(MeasuredV1, KIND)
    today.register(MeasuredV3, KIND, version=3, upcasters=UPCASTERS)
    recorded = round_trip(then, MeasuredV1(sample="s7", volume="250"), reader=today)
    assert (recorded.version, type(recorded.event)) == (3, MeasuredV3)
    assert (recorded.event.millilitres, recorded.event.stream) == (0.25, "sample:s7")


def test_an_event_of_today_s_version_takes_no_step() -> None:
    """Upcasters are for older rows only."""
    registry = Registry()

    def never(fields: dict[str, Any]) -> dict[str, Any]:
        raise AssertionError("a step was taken")

    registry.register(MeasuredV3, KIND, version=3, upcasters={1: never, 2: never})
    assert round_trip(registry, MeasuredV3(sample="s", millilitres=1.0, stream="x")).event.sample == "s"


def test_an_event_of_a_later_version_is_left_as_it_is() -> None:
    """A reader that knows version 1 gets version 3's columns as a mapping, and the stored version."""
    then, today = Registry(), Registry()
    then.register(MeasuredV1, KIND)
    today.register(MeasuredV3, KIND, version=3, upcasters=UPCASTERS)
    recorded = round_trip(today, MeasuredV3(sample="s", millilitres=1.0, stream="x"), reader=then)
    assert (recorded.version, recorded.event["stream"]) == (3, "x")


def test_a_step_that_fails_names_itself() -> None:
    """An upcaster that raises on stored data is an integrity error with kind and version."""
    then, today = Registry(), Registry()
    then.register(MeasuredV1, KIND)
    today.register(MeasuredV3, KIND, version=3, upcasters=UPCASTERS)
    with pytest.raises(IntegrityError, match="from version 1 to 2 raised ValueError") as caught:
        round_trip(then, MeasuredV1(sample="s", volume="plenty"), reader=today)
    assert (caught.value.code, caught.value.kind, caught.value.version) == ("upcast_failed", KIND, 1)


def test_every_shared_column_can_be_filled() -> None:
    """A field named after each shared column lands in it, as text that a scan can filter."""
    fields: dict[str, Any] = dict.fromkeys(SHARED_COLUMNS, (str, ...))
    model = create_model("Everywhere", __base__=Event, **fields)
    registry = Registry()
    event_type = registry.register(model, KIND)
    event = model(**{name: f"<{name}>" for name in SHARED_COLUMNS})
    stored = fields_of(event_type, event)
    assert {name: stored[name] for name in SHARED_COLUMNS} == {name: f"<{name}>" for name in SHARED_COLUMNS}
    assert stored["payload"] == "{}"
