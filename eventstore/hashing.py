"""Digests of structures, bytes and streams: redun's ids to the bit, and the hashes of the log itself.

Two families live here. Entity ids (values, call nodes, arguments, tags) are redun's: SHA-512 cut to 40 hex
characters over bencode, so histories and caches interchange. Event hashes and tree nodes are SHA-256 with
the domain separation of RFC 6962. Both rest on one encoding, bencode (BEP 3). Nothing here reads storage.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import IO, Any

__all__ = [
    "SALT_BYTES",
    "bencode",
    "body_digest",
    "canonical_json",
    "hash_argument",
    "hash_arguments",
    "hash_bytes",
    "hash_call",
    "hash_eval",
    "hash_leaf",
    "hash_node",
    "hash_stream",
    "hash_struct",
    "hash_tag",
    "hash_tagged_bytes",
]

SALT_BYTES = 16
_ID_LENGTH = 40


def bencode(value: Any) -> bytes:
    """Encode integers, text, bytes, iterables and mappings (text keys, sorted) by BEP 3.

    Text is UTF-8 and cannot be told from the same bytes. A bool, a float and None have no encoding.

    Raises
    ------
    TypeError
        A value, at any depth, of another type.
    """
    parts: list[bytes] = []
    _bencode(value, parts)
    return b"".join(parts)


def _bencode(value: Any, parts: list[bytes]) -> None:
    # By exact type first: nearly all of what is hashed is text and lists of text.
    kind = value.__class__
    if kind is str:
        raw = value.encode()
        parts.append(b"%d:%b" % (len(raw), raw))
    elif kind is list or kind is tuple:
        parts.append(b"l")
        for item in value:
            if item.__class__ is str:
                raw = item.encode()
                parts.append(b"%d:%b" % (len(raw), raw))
            else:
                _bencode(item, parts)
        parts.append(b"e")
    elif isinstance(value, str):
        _bencode(str.__str__(value), parts)
    elif isinstance(value, bytes):
        parts.append(b"%d:%b" % (len(value), value))
    elif isinstance(value, int) and kind is not bool:
        parts.append(b"i%de" % value)
    elif isinstance(value, Mapping):
        parts.append(b"d")
        for key in sorted(value):
            _bencode(key, parts)
            _bencode(value[key], parts)
        parts.append(b"e")
    elif isinstance(value, Iterable):
        _bencode(list(value), parts)
    else:
        raise TypeError(
            "bencode takes integers, text, bytes, iterables and mappings, found "
            f"{kind.__name__}: turn it into text first"
        )


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no blanks, as redun compares tag values.

    Python's own encoder is used: its escapes and its printing of floats are part of the form.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


# redun's ids ---------------------------------------------------------------------------------------------


def hash_bytes(data: bytes) -> str:
    """Return the raw digest of `data`: SHA-512, the first 40 hex characters."""
    return hashlib.sha512(data).hexdigest()[:_ID_LENGTH]


def hash_stream(stream: IO[bytes], *, chunk_bytes: int = 1 << 20) -> str:
    """Return the raw digest of what is left in `stream`, read in chunks of `chunk_bytes`."""
    digest = hashlib.sha512()
    while chunk := stream.read(chunk_bytes):
        digest.update(chunk)
    return digest.hexdigest()[:_ID_LENGTH]


def hash_struct(struct: Any) -> str:
    """Return the structural hash: the raw digest of the bencode of `struct`."""
    return hash_bytes(bencode(struct))


@lru_cache(maxsize=256)
def _tag_prefix(tag: str) -> bytes:
    return bencode([tag])


def hash_tagged_bytes(tag: str, data: bytes) -> str:
    """Return the raw digest of bencode of ``[tag]`` followed by the bytes themselves."""
    digest = hashlib.sha512(_tag_prefix(tag))
    digest.update(data)
    return digest.hexdigest()[:_ID_LENGTH]


def hash_arguments(positional: Iterable[str], keyword: Mapping[str, str]) -> str:
    """Return the arguments hash of value hashes: ``H(["TaskArguments", positional, keyword])``."""
    return hash_struct(["TaskArguments", list(positional), dict(keyword)])


def hash_eval(task_hash: str, args_hash: str) -> str:
    """Return the key of the evaluation cache: ``H(["Eval", task, arguments])``."""
    return hash_struct(["Eval", task_hash, args_hash])


def hash_call(task_hash: str, args_hash: str, result_hash: str, children: Iterable[str]) -> str:
    """Return the id of a call node; children are sorted, repeats stay."""
    return hash_struct(["CallNode", task_hash, args_hash, result_hash, sorted(children)])


def hash_argument(
    call_hash: str, *, position: int | None = None, key: str | None = None, value_hash: str
) -> str:
    """Return the id of one argument record; the part that does not apply enters as the text ``None``."""
    # Bencode of texts, spelled out: histories have more arguments than anything else.
    texts = [text.encode() for text in (call_hash, str(position), str(key), value_hash)]
    return hash_bytes(b"l8:Argument%be" % b"".join([b"%d:%b" % (len(text), text) for text in texts]))


def hash_tag(entity_id: str, key: str, value: Any, parents: Iterable[str] = ()) -> str:
    """Return the id of a tag: entity, key, canonical JSON of the value, sorted superseded tags."""
    return hash_struct(["Tag", entity_id, key, canonical_json(value), sorted(parents)])


# the log's own hashes ------------------------------------------------------------------------------------


def body_digest(salt: bytes, body: bytes) -> bytes:
    """Return the commitment to a body: ``SHA-256(0x02 || salt || body)``, 32 bytes."""
    return hashlib.sha256(b"\x02" + salt + body).digest()


def hash_leaf(header: bytes) -> bytes:
    """Return an event hash, the leaf of the tree: ``SHA-256(0x00 || header)`` (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\x00" + header).digest()


def hash_node(left: bytes, right: bytes) -> bytes:
    """Return an inner node of the tree: ``SHA-256(0x01 || left || right)`` (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()
