"""The columns: one name, one meaning, one type, in one order."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.codec import schema
from eventstore.codec.schema import BODY, BODY_COLUMNS, DICTIONARY_COLUMNS, HEADER_COLUMNS, SCHEMA
from eventstore.events import BUILT_IN
from eventstore.events.registry import AUDIT_FIELDS, SHARED_COLUMNS


def test_names_are_unique_and_body_columns_are_sorted() -> None:
    """The canonical form leans on the order: body columns go by name, and none is there twice."""
    assert len(set(SCHEMA.names)) == len(SCHEMA.names)
    assert list(BODY_COLUMNS) == sorted(BODY_COLUMNS)
    assert SCHEMA.names == [*HEADER_COLUMNS, *BODY_COLUMNS]
    assert schema.POSITION.name not in SCHEMA.names


def test_members_of_structs_are_sorted() -> None:
    """Structs are bencoded as maps too, so their members go by name."""
    for field in SCHEMA:
        if pa.types.is_list(field.type) and pa.types.is_struct(field.type.value_type):
            names = [member.name for member in field.type.value_type]
            assert names == sorted(names)


def test_every_field_of_every_kind_has_a_column() -> None:
    """A built-in event fits into the columns: there is one for each field, and each is used."""
    fields = {name for model in BUILT_IN for name in model.model_fields}
    assert fields <= set(BODY_COLUMNS)
    assert set(BODY_COLUMNS) - fields == {"payload", "software", "stream"}
    assert {*AUDIT_FIELDS, *SHARED_COLUMNS} <= set(BODY_COLUMNS)


@pytest.mark.parametrize("name", SHARED_COLUMNS)
def test_shared_columns_are_text(name: str) -> None:
    """What a user's kind may fill is text."""
    assert SCHEMA.field(name).type == pa.string()


def test_only_text_and_versions_ask_for_dictionaries() -> None:
    """Columns that repeat are columns of the schema, and small ones."""
    for name in DICTIONARY_COLUMNS:
        assert SCHEMA.field(name).type in (pa.string(), pa.int32())


def test_every_column_says_what_it_means() -> None:
    """The format page is made from these texts: none is empty, none ends a sentence."""
    for column in (*schema.HEADER, *BODY):
        assert column.doc
        assert not column.doc.endswith(".")


@given(st.datetimes(dt.datetime(2, 1, 1), dt.datetime(9998, 1, 1), timezones=st.timezones()))
def test_microseconds_are_what_arrow_stores(moment: dt.datetime) -> None:
    """The integer of a moment, cast to a time column, is that moment."""
    stored = pa.array([schema.microseconds(moment)], pa.int64()).cast(schema.TIME)
    assert stored[0].value == pa.scalar(moment.astimezone(dt.UTC), schema.TIME).value
