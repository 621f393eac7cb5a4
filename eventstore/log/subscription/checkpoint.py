"""The checkpoint of a subscription as it is stored: one small file that says where it stands.

Its digest covers its bytes, and it names its store and a seal, so a position is never taken from a torn file
or from another log.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from eventstore import layout
from eventstore.codec.payload import dump_json, load_json
from eventstore.errors import ConflictError, FormatError, IntegrityError, InvalidEventError, StateError
from eventstore.ids import Digest, is_digest
from eventstore.log.sequence import Head
from eventstore.seal import GENESIS

__all__ = [
    "Checkpoint",
    "HandlerFailure",
    "SubscriptionState",
    "check_name",
    "checkpoint_beyond_head",
    "decode_checkpoint",
    "encode_checkpoint",
    "foreign_checkpoint",
    "is_of_log",
    "subscription_taken",
]

CHECKPOINT_FORMAT = 2
_HEAD, _MIDDLE, _TAIL = b'{"digest":"', b'","subscription":', b"}\n"
_NAME = re.compile(layout.SUBSCRIPTION_PATTERN)


class SubscriptionState(StrEnum):
    """What a subscription is ready for."""

    ACTIVE = "active"
    """It can run."""
    PARKED = "parked"
    """Its handler failed again and again: it waits for `resume`, `skip` or `seek`."""
    DELETED = "deleted"
    """It is gone; the file stays so that no number is used twice."""


@dataclass(frozen=True, slots=True)
class HandlerFailure:
    """Why a subscription is parked."""

    error_type: str
    """Name of the class that the handler raised."""
    message: str
    """What it said, credentials masked, at most 2,000 characters."""
    first: int
    """Position of the first event that the handler did not take."""
    last: int
    """Position of the last event that it was given with that one."""
    attempts: int
    """How often it failed before it was parked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Where one subscription stands, as it is stored."""

    name: str
    revision: int
    """1, 2, 3, ...; the largest number counts."""
    position: int
    """Every event before it is done."""
    seal: int
    """Number of a seal with which the log had at least so many events; 0 where nothing was sealed."""
    seal_digest: Digest
    """The digest of that seal, by which the log is told from one that went on differently."""
    kinds: tuple[str, ...] | None
    """The kinds that it asks for, sorted; None means all."""
    state: SubscriptionState
    failure: HandlerFailure | None
    """There if it is parked, else None."""
    updated_at: dt.datetime
    """When it was written, UTC, by the writer's clock."""
    software: str
    """What wrote it."""
    runner: str
    """Random name of the `Subscription` that wrote it, which so knows its own files again."""
    store_id: str
    """The store whose positions it means."""


def check_name(name: str) -> None:
    """Raise InvalidEventError (code ``bad_subscription``) unless `name` can be a subscription's."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidEventError(
            "a subscription's name of 1 to 100 lower-case letters, digits, - and _ was expected, found "
            f"{name!r}; choose another",
            code="bad_subscription",
            subscription=name,
        )


def subscription_taken(name: str, path: str) -> ConflictError:
    """Build the error of the runner that came second."""
    return ConflictError(
        f"the subscription {name!r} was expected to have one runner, found {path!r} written by another; this "
        "one stops, and nothing is skipped. Let one process run it, or use a second name",
        code="subscription_taken",
        subscription=name,
        path=path,
    )


def checkpoint_beyond_head(checkpoint: Checkpoint, size: int) -> IntegrityError:
    """Build the error for a checkpoint that lies behind the end of the log, which has `size` events."""
    name, path = checkpoint.name, layout.subscription_path(checkpoint.name, checkpoint.revision)
    return IntegrityError(
        f"the subscription {name!r} stands at position {checkpoint.position}, in {path!r}, and the sealed "
        f"log ends at {size}: seals are missing. Run `eventstore verify` and restore them; or `seek` to "
        "where to go on",
        code="checkpoint_beyond_head",
        subscription=name,
        position=size,
        path=path,
    )


def is_of_log(checkpoint: Checkpoint, head: Head | None) -> bool:
    """Whether a checkpoint is of the log that ended at `head` with the seal it names; None: there is none."""
    return head is not None and head.digest == checkpoint.seal_digest and head.size >= checkpoint.position


def foreign_checkpoint(checkpoint: Checkpoint, head: Head | None) -> StateError:
    """Build the error for a checkpoint of another history, whose seal here is `head`; None: there is none."""
    name, path = checkpoint.name, layout.subscription_path(checkpoint.name, checkpoint.revision)
    if head is None:
        found = "no seal of this number"
    elif head.digest != checkpoint.seal_digest:
        found = f"one with the digest {head.digest}"
    else:
        found = f"{head.size} events up to it"
    return StateError(
        f"the subscription {name!r} stands at position {checkpoint.position}, in {path!r}, of a log whose "
        f"seal {checkpoint.seal} has the digest {checkpoint.seal_digest}; found {found}, as when the log was "
        "restored from an older copy and went on differently. Nothing is handed over: `seek` to where to go "
        "on, or `delete` it and begin anew (`eventstore subscriptions --seek` or `--delete`)",
        code="foreign_checkpoint",
        subscription=name,
        position=checkpoint.position,
        path=path,
    )


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Return the bytes of a checkpoint's file."""
    body = dump_json({"format": CHECKPOINT_FORMAT, **asdict(checkpoint)})
    return _HEAD + hashlib.sha256(body).hexdigest().encode() + _MIDDLE + body + _TAIL


def decode_checkpoint(path: str, raw: bytes, *, store_id: str) -> Checkpoint:
    """Read a checkpoint's file.

    Raises
    ------
    IntegrityError
        The bytes are truncated or altered, or disagree with the file's name (``checkpoint_damaged``).
    FormatError
        Written by a newer version (``newer_format``), or for another store (``other_store``).
    """
    start = len(_HEAD) + 64 + len(_MIDDLE)
    body, claimed = raw[start : -len(_TAIL)], raw[len(_HEAD) : len(_HEAD) + 64]
    digest = Digest(hashlib.sha256(body).hexdigest())
    if _HEAD + claimed + _MIDDLE + body + _TAIL != raw or digest.encode() != claimed:
        raise _damaged(path, f"its {len(raw)} bytes do not have the digest that they state")
    said = load_json(body, where=path)
    if not isinstance(said, dict):
        raise _damaged(path, "it holds no JSON object")
    if said.get("format") == 1:
        # It names no seal: nothing vouches for its position, unless it is the first.
        said = {**said, "format": CHECKPOINT_FORMAT, "seal": 0, "seal_digest": GENESIS}
    if said.get("format") != CHECKPOINT_FORMAT:
        raise FormatError(
            f"a checkpoint of format {CHECKPOINT_FORMAT} was expected in {path!r}, found format "
            f"{said.get('format')!r}; upgrade eventstore to run this subscription",
            code="newer_format",
            path=path,
        )
    try:
        checkpoint = _checkpoint(said)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, f"a field is wrong ({error!r})") from error
    if layout.parse_subscription(path) != (checkpoint.name, checkpoint.revision):
        raise _damaged(path, f"it says that it is revision {checkpoint.revision} of {checkpoint.name!r}")
    if checkpoint.store_id != store_id:
        raise FormatError(
            f"a checkpoint of the store {store_id} was expected in {path!r}, found one of "
            f"{checkpoint.store_id}; positions of another log mean nothing here. Move it out of this store",
            code="other_store",
            path=path,
        )
    return checkpoint


def _checkpoint(said: dict[str, Any]) -> Checkpoint:
    failure, kinds = said["failure"], said["kinds"]
    made = Checkpoint(
        name=said["name"],
        revision=said["revision"],
        position=said["position"],
        seal=said["seal"],
        seal_digest=said["seal_digest"],
        kinds=None if kinds is None else tuple(kinds),
        state=SubscriptionState(said["state"]),
        failure=None if failure is None else HandlerFailure(**failure),
        updated_at=dt.datetime.fromisoformat(said["updated_at"]),
        software=said["software"],
        runner=said["runner"],
        store_id=said["store_id"],
    )
    if not isinstance(made.position, int) or made.position < 0:
        raise ValueError(f"the position {made.position!r} is none")
    if type(made.seal) is not int or made.seal < 0 or not is_digest(made.seal_digest):
        raise ValueError(f"the seal {made.seal!r} with {made.seal_digest!r} is none")
    if (made.state is SubscriptionState.PARKED) is not (failure is not None):
        raise ValueError(f"the failure does not go with the state {made.state}")
    return made


def _damaged(path: str, found: str) -> IntegrityError:
    return IntegrityError(
        f"the checkpoint {path!r} is damaged: {found}. The one before it serves, and events come again; if "
        "that is gone too, delete the folder's files and subscribe anew, with `start` where to begin",
        code="checkpoint_damaged",
        path=path,
    )
