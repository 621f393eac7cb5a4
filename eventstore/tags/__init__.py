"""Tags: what puts them on and takes them off, as events; edits of those that are current; ``key=value`` text.

A tag's hash is redun's. Nothing here reads a log: who edits brings somebody who knows which tags are current.
"""

from eventstore.tags.edits import CurrentTag, TagAnswers, TagEditor
from eventstore.tags.recording import Pairs, canonical_value, delete_tags, record_tags
from eventstore.tags.text import (
    ANY_VALUE,
    format_tag,
    format_tag_value,
    parse_tag,
    parse_tag_or_key,
    parse_tag_value,
)

__all__ = [
    "ANY_VALUE",
    "CONTEXT_KEY",
    "DOC_KEY",
    "PROJECT_KEY",
    "USER_KEY",
    "VERSION_KEY",
    "CurrentTag",
    "Pairs",
    "TagAnswers",
    "TagEditor",
    "canonical_value",
    "delete_tags",
    "format_tag",
    "format_tag_value",
    "parse_tag",
    "parse_tag_or_key",
    "parse_tag_value",
    "record_tags",
]

CONTEXT_KEY = "redun.context"
"""On a call node: the hash of a context that it was reached under."""
DOC_KEY = "doc"
"""A description for people."""
PROJECT_KEY = "project"
"""On an execution: the project that it belongs to."""
USER_KEY = "user"
"""On an execution: who ran it."""
VERSION_KEY = "redun.version"
"""On an execution: the version of redun that ran it."""
