"""The tables of redun's databases that an import reads, and the versions of them that it can read.

Only the columns that are read stand here. Types are those that both SQLite and PostgreSQL give back.
"""

from __future__ import annotations

import sqlalchemy as sa

__all__ = [
    "MIGRATIONS",
    "READABLE_MAJOR",
    "READABLE_MINOR",
    "argument",
    "argument_result",
    "call_edge",
    "call_node",
    "call_subtree_task",
    "evaluation",
    "execution",
    "file",
    "handle",
    "handle_edge",
    "job",
    "migration",
    "schema",
    "subvalue",
    "tag",
    "tag_edit",
    "task",
    "value",
    "version",
]

READABLE_MAJOR, READABLE_MINOR = 3, 5
"""redun 0.44 opens databases of this version, and newer ones of the same major version."""

MIGRATIONS = {
    "806f5dcb11bf": (1, 0),
    "647c510a77b1": (2, 0),
    "30ffbaee18cd": (2, 1),
    "71ec303c90e4": (2, 2),
    "d4af139b6f53": (2, 3),
    "cd2d53191748": (3, 0),
    "cc4f663817b6": (3, 1),
    "eb7b95e4e8bf": (3, 2),
    "f68b3aaee9cc": (3, 3),
    "3b0a6e67cc58": (3, 4),
    "0bee3d6dba76": (3, 5),
}
"""The version that each migration of redun leads to."""

schema = sa.MetaData()
_TIME = sa.DateTime(timezone=True)


def _table(name: str, *columns: sa.Column[object] | str) -> sa.Table:
    """Return a table; a column that is only named holds text."""
    made = [sa.Column(each, sa.String) if isinstance(each, str) else each for each in columns]
    return sa.Table(name, schema, *made)


version = _table("redun_version", sa.Column("version", sa.Integer), sa.Column("timestamp", _TIME))
migration = _table("alembic_version", "version_num")

value = _table("value", "value_hash", "type", "format", sa.Column("value", sa.LargeBinary))
subvalue = _table("subvalue", "value_hash", "parent_value_hash")
file = _table("file", "value_hash", "path")
task = _table("task", "hash", "name", "namespace", "source")

handle = _table("handle", "hash", "fullname", "value_hash", "key", sa.Column("is_valid", sa.Boolean))
handle_edge = _table("handle_edge", "parent_id", "child_id")

call_node = _table(
    "call_node",
    *("call_hash", "task_name", "task_hash", "args_hash", "value_hash"),
    sa.Column("timestamp", _TIME),
)
call_edge = _table("call_edge", "parent_id", "child_id", sa.Column("call_order", sa.Integer))
call_subtree_task = _table("call_subtree_task", "call_hash", "task_hash")
argument = _table(
    "argument",
    *("arg_hash", "call_hash", "value_hash"),
    sa.Column("arg_position", sa.Integer),
    "arg_key",
)
argument_result = _table("argument_result", "arg_hash", "result_call_hash")
evaluation = _table("evaluation", "eval_hash", "task_hash", "args_hash", "value_hash")

execution = _table("execution", "id", "args", "job_id", sa.Column("updated_time", _TIME))
job = _table(
    "job",
    *("id", "task_hash", "call_hash", "parent_id", "execution_id"),
    sa.Column("start_time", _TIME),
    sa.Column("end_time", _TIME),
    sa.Column("cached", sa.Boolean),
)

tag = _table("tag", "tag_hash", "entity_type", "entity_id", "key", sa.Column("value", sa.JSON))
tag_edit = _table("tag_edit", "parent_id", "child_id")
