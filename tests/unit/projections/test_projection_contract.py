"""The contract of recipes: a user's own in ten lines, what a wrong one gets, and the registry."""

from __future__ import annotations

import builtins
import io
from typing import Any

import polars as pl
import pytest
from tables_kit import frame_of, h, table_from

import projections
from eventstore import Event, JobStarted, NotFoundError, ProjectionError, Registry, event_kind
from projections import (
    BUILT_IN_TABLES,
    Column,
    ContentDigest,
    GeneralProjection,
    KeyedProjection,
    ProjectionRegistry,
    content_digest,
    default_projections,
    from_payload,
    text,
    whole,
)
from projections.joined import _KEEP


class Weighed(Event):
    """A sample was weighed."""

    sample: str
    grams: float
    task_hash: str | None = None


kinds = Registry()
event_kind("lab.weighed", registry=kinds)(Weighed)


def weighings(*pairs: tuple[str, float]) -> pl.DataFrame:
    """Return events of the user's kind."""
    return frame_of([Weighed(sample=name, grams=grams) for name, grams in pairs], registry=kinds)


def recipe(**changes: Any) -> KeyedProjection:
    """Return a recipe for the user's kind, with changes."""
    base: dict[str, Any] = {
        "name": "weights",
        "version": 1,
        "doc": "One sample.",
        "kinds": ("lab.weighed",),
        "inputs": ("payload",),
        "key": ("sample",),
        "columns": {"sample": text("its name"), "grams": Column(pl.Float64, "newest weight", "last")},
        "rows": lambda events: from_payload(events, {"sample": pl.String, "grams": pl.Float64}).drop("kind"),
    }
    return KeyedProjection(**{**base, **changes})


def test_a_projection_of_ones_own_kind_takes_ten_lines() -> None:
    """Fields are read from the JSON payload; the newest weight of each sample stays."""
    registry = ProjectionRegistry()

    @registry.projection(
        "weights",
        kinds=["lab.weighed"],
        inputs=["payload"],
        key=["sample"],
        columns={"sample": text("its name"), "grams": Column(pl.Float64, "newest weight", "last")},
    )
    def weights(events: pl.LazyFrame) -> pl.LazyFrame:
        """One sample."""
        return from_payload(events, {"sample": pl.String, "grams": pl.Float64}).drop("kind")

    assert registry.get("weights") is weights
    assert weights.doc == "One sample."
    assert table_from(weights, weighings(("b", 1.0), ("a", 2.5), ("b", 3.0))).rows() == [
        ("a", 1, 2.5),
        ("b", 0, 3.0),
    ]


def test_a_projection_over_built_in_kinds_takes_ten_lines() -> None:
    """Typed columns of the log are read by name, without JSON."""
    registry = ProjectionRegistry()

    @registry.projection(
        "jobs_of_task",
        doc="One task that jobs evaluated.",
        kinds=["job.started"],
        inputs=["job_id", "task_hash"],
        key=["task_hash"],
        columns={"task_hash": text("the task"), "first_job": text("its first job")},
    )
    def jobs_of_task(events: pl.LazyFrame) -> pl.LazyFrame:
        return events.select("position", "task_hash", first_job="job_id")

    events = [JobStarted(job_id=f"j{n}", execution_id="run", task_hash=h("t")) for n in range(3)]
    assert table_from(jobs_of_task, frame_of(events)).rows() == [(h("t"), 0, "j0")]


def test_a_general_recipe_folds_by_one_function() -> None:
    """What no key can say is folded from state to state; without events the table is empty."""

    def step(state: pl.DataFrame | None, events: pl.DataFrame) -> pl.DataFrame:
        before = 0 if state is None else state["n"][0]
        return pl.DataFrame({"one": ["all"], "position": [0], "n": [before + events.height]})

    counter = GeneralProjection(
        name="counter",
        version=1,
        doc="One row.",
        kinds=("lab.weighed",),
        inputs=(),
        key=("one",),
        columns={"one": text("always all"), "n": whole("events so far")},
        step=step,
    )
    frame = weighings(*[("a", 1.0)] * 7)
    assert table_from(counter, frame, cuts=[2, 2, 5]).rows() == [("all", 0, 7)]
    assert table_from(counter, frame.clear()).shape == (0, 3)


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ("any", True),
        ("first", None),
        ("first_non_null", 3),
        ("last", None),
        ("last_non_null", 1),
        ("max", 3),
        ("min", 1),
    ],
)
def test_what_a_cell_keeps(keep: Any, expected: object) -> None:
    """Each way of keeping gives its cell of the rows null, 3, 2, 1, null, also over every cut."""
    dtype = pl.Boolean if keep == "any" else pl.Int64
    cells = [None, 3, 2, 1, None]
    values = [cell == 2 if keep == "any" and cell else cell for cell in cells]

    def rows(events: pl.LazyFrame) -> pl.LazyFrame:
        picked = pl.col("position").replace_strict(range(5), values, return_dtype=dtype)
        return events.select("position", sample=pl.lit("a"), cell=picked)

    one = recipe(rows=rows, columns={"sample": text("name"), "cell": Column(dtype, "cell", keep)})
    frame = weighings(*[("a", 1.0)] * 5)
    for cut in range(6):
        assert table_from(one, frame, cuts=[cut])["cell"].to_list() == [expected]


def test_every_way_of_keeping_is_tested() -> None:
    """The list above names all there are."""
    assert sorted(_KEEP) == ["any", "first", "first_non_null", "last", "last_non_null", "max", "min"]


def test_rows_with_a_null_key_are_dropped() -> None:
    """A row without its key says nothing."""
    one = recipe(
        rows=lambda events: events.select("position", sample=pl.lit(None, pl.String), grams=pl.lit(1.0))
    )
    assert table_from(one, weighings(("a", 1.0))).height == 0


def test_a_recipe_that_raises_is_named() -> None:
    """The error names projection, version, step and position, and keeps the cause."""

    def rows(events: pl.LazyFrame) -> pl.LazyFrame:
        raise RuntimeError("out of ink")

    frame = weighings(("a", 1.0), ("b", 1.0)).slice(1)
    with pytest.raises(
        ProjectionError, match=r"weights version 3 in the batch at position 1.*out of ink"
    ) as got:
        table_from(recipe(rows=rows, version=3), frame)
    assert (got.value.code, got.value.projection, got.value.position) == ("recipe_failed", "weights", 1)
    assert isinstance(got.value.__cause__, RuntimeError)


def test_a_payload_that_does_not_fit_is_named() -> None:
    """A field that cannot be read as its type fails the recipe, not the table's answers."""
    one = recipe(
        rows=lambda events: from_payload(events, {"sample": pl.Int64, "grams": pl.Float64}).drop("kind"),
    )
    with pytest.raises(ProjectionError) as got:
        table_from(one, weighings(("a", 1.0)))
    assert got.value.code == "recipe_failed"


@pytest.mark.parametrize(
    ("rows", "expected", "found"),
    [
        (lambda e: e.select("position", sample=pl.lit("a")), "grams: Float64", "grams: nothing"),
        (
            lambda e: e.select("position", sample=pl.lit("a"), grams=pl.lit(1, pl.Int8)),
            "grams: Float64",
            "grams: Int8",
        ),
        (
            lambda e: e.select("position", sample=pl.lit("a"), grams=pl.lit(1.0), more=pl.lit("x")),
            "more: no such column",
            "more: String",
        ),
    ],
)
def test_wrong_columns_are_named(rows: Any, expected: str, found: str) -> None:
    """A missing column, a wrong type and a column too many are errors that say expected and found."""
    with pytest.raises(ProjectionError) as got:
        table_from(recipe(rows=rows), weighings(("a", 1.0)))
    assert (got.value.code, got.value.expected, got.value.found) == ("wrong_columns", expected, found)


def test_wrong_columns_of_a_step_say_where() -> None:
    """The error has the position of the first event that the step was given."""
    one = GeneralProjection(
        name="counter",
        version=1,
        doc="One row.",
        kinds=("lab.weighed",),
        inputs=(),
        key=("one",),
        columns={"one": text("always all")},
        step=lambda state, events: events.select("position"),
    )
    with pytest.raises(ProjectionError, match="in the batch at position 2") as got:
        table_from(one, weighings(*[("a", 1.0)] * 3).slice(2))
    assert (got.value.code, got.value.position) == ("wrong_columns", 2)


def test_a_column_that_inputs_do_not_name_is_not_there() -> None:
    """A recipe sees only what it says that it reads, and the error says so."""
    one = recipe(rows=lambda events: events.select("position", sample="task_hash", grams=pl.lit(1.0)))
    with pytest.raises(ProjectionError, match="named in `inputs`"):
        table_from(one, weighings(("a", 1.0)))


def test_an_input_that_the_log_lacks_is_named() -> None:
    """`inputs` may name the log's columns only."""
    with pytest.raises(ProjectionError, match="colour") as got:
        table_from(recipe(inputs=("payload", "colour")), weighings(("a", 1.0)))
    assert got.value.code == "unknown_input"


def test_a_key_that_comes_twice_is_an_error() -> None:
    """A `finish` that gives two rows one key fails instead of publishing an ambiguous table."""
    one = recipe(finish=lambda state: pl.concat([state, state]))
    with pytest.raises(ProjectionError, match="1 more") as got:
        table_from(one, weighings(("a", 1.0)))
    assert got.value.code == "key_not_unique"


def test_a_finish_that_changes_the_first_key_column_is_an_error() -> None:
    """Parts of a table are finished on their own: what moves rows to another key would mix them up."""
    one = recipe(finish=lambda state: state.with_columns(pl.col("sample").str.to_uppercase()))
    with pytest.raises(ProjectionError, match="'A'") as got:
        table_from(one, weighings(("a", 1.0)))
    assert got.value.code == "key_changed"


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../evil"},
        {"name": "Weights"},
        {"version": 0},
        {"kinds": ()},
        {"key": ()},
        {"key": ("nothing",)},
        {"state_key": ("nothing",)},
        {"first_event_of": ("nothing",)},
        {"state": {"sample": text("no finish")}},
        {"state": {"sample": text("no position")}, "finish": lambda state: state},
        {"kinds": [Weighed]},
        {"kinds": None},
    ],
)
def test_a_malformed_recipe_is_refused(changes: dict[str, Any]) -> None:
    """Names that are no folder, missing kinds and keys fail when the recipe is made."""
    with pytest.raises(ProjectionError) as got:
        recipe(**changes)
    assert got.value.code == "bad_projection"


@pytest.mark.parametrize("field", ["kinds", "inputs", "key", "state_key", "first_event_of"])
def test_one_text_is_not_taken_letter_by_letter(field: str) -> None:
    """Where several names are expected a text alone is refused, and the error says how to write it."""
    with pytest.raises(ProjectionError, match=rf"weights.*`{field}`.*'sample'.*\['sample'\]") as got:
        recipe(**{field: "sample"})
    assert got.value.code == "bad_projection"
    if field not in ("kinds", "inputs", "key"):
        return
    given: dict[str, Any] = {"kinds": ["lab.weighed"], "inputs": ["payload"], "key": ["sample"]}
    registry = ProjectionRegistry()
    decorate = registry.projection("weights", columns={"sample": text("")}, **{**given, field: "sample"})
    with pytest.raises(ProjectionError, match=rf"`{field}`") as got:
        decorate(lambda events: events)
    assert got.value.code == "bad_projection"
    assert not registry.names


def test_names_may_be_given_as_any_several() -> None:
    """Lists and generators of names are taken as tuples, as a manifest compares them."""
    one = recipe(kinds=["lab.weighed"], inputs=iter(["payload"]), key=["sample"])
    assert (one.kinds, one.inputs, one.key) == (("lab.weighed",), ("payload",), ("sample",))


STORED = [
    *(pl.String, pl.Binary, pl.Boolean, pl.Int8, pl.UInt64, pl.Float32, pl.Float64, pl.Decimal(10, 2)),
    *(pl.Date, pl.Time, pl.Datetime("ms"), pl.Datetime("us", "UTC"), pl.Duration("us")),
    *(pl.List(pl.String), pl.Struct({"a": pl.List(pl.Struct({"b": pl.Int64}))})),
]
NOT_STORED = [
    *(pl.Categorical, pl.Categorical(), pl.Enum(["a"]), pl.Enum, pl.Object, pl.Null, pl.Int128, pl.UInt128),
    *(pl.Array(pl.Int64, 2), pl.List(pl.Categorical), pl.Struct({"a": pl.Object}), pl.List(pl.Int128)),
]
NO_WHOLE_TYPE = [pl.Datetime, pl.Duration, pl.Decimal, pl.List, pl.Struct, pl.Struct([]), "String", None]


@pytest.mark.parametrize("dtype", STORED, ids=str)
def test_a_column_may_have_any_type_that_is_stored(dtype: Any) -> None:
    """What a recipe may declare has a canonical form, and comes back from a file as it was."""
    one = recipe(columns={"sample": text("name"), "cell": Column(dtype, "")})
    assert len(content_digest(one.schema.to_frame(), one.key)) == 64
    file = io.BytesIO()
    one.schema.to_frame().write_parquet(file, use_pyarrow=True)
    assert pl.read_parquet_schema(file.getvalue()) == one.schema


@pytest.mark.parametrize("dtype", [*NOT_STORED, *NO_WHOLE_TYPE], ids=str)
@pytest.mark.parametrize("place", ["columns", "state"])
def test_a_column_of_a_type_that_is_not_stored_is_refused(dtype: Any, place: str) -> None:
    """A type without a stored form, or without its parameters, fails when the recipe is made."""
    columns = {"sample": text("name"), "position": whole(""), "cell": Column(dtype, "")}
    more: dict[str, Any] = {"finish": lambda state: state.drop("cell")} if place == "state" else {}
    with pytest.raises(ProjectionError, match=r"weights.*'cell'.*found.*Next: declare another type") as got:
        recipe(**{place: columns}, **more)
    assert got.value.code == "bad_projection"


@pytest.mark.parametrize("dtype", NOT_STORED, ids=str)
def test_a_type_is_refused_because_it_has_no_canonical_form(dtype: Any) -> None:
    """Recipe and content digest agree on the types that there are."""
    with pytest.raises(ProjectionError) as got:
        ContentDigest({"cell": dtype}, ["cell"])  # type: ignore[arg-type]
    assert got.value.code == "unsupported_type"


def test_a_column_is_a_column() -> None:
    """A bare type where a column is expected is told, with the column's name."""
    with pytest.raises(ProjectionError, match=r"a Column for 'grams'.*found Float64") as got:
        recipe(columns={"sample": text("its name"), "grams": pl.Float64})
    assert got.value.code == "bad_projection"


def test_a_star_import_shadows_no_builtin() -> None:
    """`projections.open` is there to be called by its full name, and is not among what a star brings."""
    assert projections.open is projections.open_tables
    assert not set(projections.__all__) & set(dir(builtins))


def test_two_recipes_under_one_name_are_an_error() -> None:
    """The second is refused by name; the same one again is fine, and `replace` says that it is meant."""
    first, second = recipe(), recipe(version=2)
    registry = ProjectionRegistry([first])
    assert registry.register(first) is first
    with pytest.raises(ProjectionError, match="weights version 2") as got:
        registry.register(second)
    assert got.value.code == "projection_taken"
    assert registry.get("weights") is first
    registry.register(second, replace=True)
    assert registry.get("weights") is second


def test_an_unknown_table_is_named_with_those_there_are() -> None:
    """The error lists the known names."""
    with pytest.raises(NotFoundError, match=r"weights.*'wieghts'") as got:
        ProjectionRegistry([recipe()]).get("wieghts")
    assert got.value.code == "unknown_projection"


def test_the_default_registry_has_the_built_in_tables() -> None:
    """Sixteen tables, by name."""
    assert set(BUILT_IN_TABLES) <= set(default_projections)
    runs, calls = {"executions", "jobs", "tasks"}, {"call_nodes", "call_edges", "contexts"}
    arguments = {"arguments", "argument_upstreams"}
    values = {"values", "subvalues", "files", "evaluations"}
    rest = {"handles", "handle_edges", "tags", "tag_edits"}
    assert set(default_projections.names) >= runs | calls | arguments | values | rest
    assert {one.name for one in BUILT_IN_TABLES} == runs | calls | arguments | values | rest


@pytest.mark.parametrize("one", BUILT_IN_TABLES, ids=lambda one: one.name)
def test_a_built_in_table_of_nothing_is_empty_and_typed(one: KeyedProjection) -> None:
    """Every table can be made of no events, has a position, and never holds values' bytes."""
    table = table_from(one, frame_of([Weighed(sample="a", grams=1.0)], registry=kinds))
    assert table.schema == one.schema
    assert table.height == 0
    assert one.schema["position"] == pl.Int64
    assert "data" not in one.reads
