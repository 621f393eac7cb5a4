"""docs/format.md is the law: its tables and its worked examples are those of the code."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from eventstore.codec.schema import BODY, HEADER, Column
from eventstore.events.registry import AUDIT_FIELDS, BUILT_IN

PAGE = (Path(__file__).parents[2] / "docs" / "format.md").read_text()


def _row(column: Column) -> str:
    return f"| `{column.name}` | `{column.type}` | {column.doc} |"


def _blocks(label: str) -> list[str]:
    return re.findall(rf"```{label}\n(.*?)\n```", PAGE, re.DOTALL)


def test_columns_are_those_of_the_schema() -> None:
    """Every column stands on the page in order, with its type and meaning."""
    header = "\n".join(map(_row, HEADER))
    body = "\n".join(map(_row, BODY))
    assert header in PAGE
    assert body in PAGE


def test_kinds_are_those_of_the_registry() -> None:
    """Every built-in kind stands on the page with its version and the columns it fills."""
    for model in BUILT_IN:
        fields = {name: field for name, field in model.model_fields.items() if name not in AUDIT_FIELDS}
        always = ", ".join(f"`{name}`" for name, field in fields.items() if field.default is not None)
        rest = ", ".join(f"`{name}`" for name, field in fields.items() if field.default is None)
        assert f"| `{model.kind}` | {model.version} | {always} | {rest or '-'} |" in PAGE


def test_event_hash_examples_recompute_with_plain_hashlib() -> None:
    """The worked examples give the stated digests, and the root over them."""
    leaves = []
    for block in _blocks("event"):
        said = {line[:12].strip(): line[12:] for line in block.splitlines()}
        salt, body = bytes.fromhex(said["salt"]), said["body"].encode()
        digest = hashlib.sha256(b"\x02" + salt + body).digest()
        assert digest.hex() == said["body digest"]
        header = said["header"].encode().replace(b"<body digest>", digest)
        leaf = hashlib.sha256(b"\x00" + header).digest()
        assert leaf.hex() == said["event hash"]
        leaves.append(leaf)
    assert len(leaves) == 2
    assert hashlib.sha256(b"\x01" + leaves[0] + leaves[1]).hexdigest() == _blocks("root")[0]


def test_entity_id_examples_recompute_with_plain_hashlib() -> None:
    """The worked entity ids are SHA-512 of the stated bytes, cut to 40 characters."""
    found = re.findall(r"(?:bencode|bytes)\s+(\S+)\n\s+id\s+([0-9a-f]{40})", _blocks("id")[0])
    assert len(found) == 2
    for raw, expected in found:
        assert hashlib.sha512(raw.encode()).hexdigest()[:40] == expected
