"""Where all subscriptions stand: small files in the store, one after another, so that any machine can go on.

Each file is put only if its number is free, so two runners of one subscription notice each other. What is
stored may lag behind what was done, and never runs ahead of it: events come again, and none is left out.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from eventstore import layout
from eventstore.errors import EventStoreError, FormatError, IntegrityError, NotFoundError, StorageError
from eventstore.filesystem import Storage
from eventstore.log.subscription.checkpoint import (
    Checkpoint,
    SubscriptionState,
    check_name,
    decode_checkpoint,
    encode_checkpoint,
    subscription_taken,
)

__all__ = ["Checkpoints"]

logger = logging.getLogger(__name__)

_MOST_LOOKS = 10
"""Listings to try while a runner writes and removes files under the reader's hands."""


class Checkpoints:
    """The checkpoints of all subscriptions of one store.

    Where storage has no atomic put-if-absent, files are put after a look whether the name is free: two
    runners may then miss each other, which repeats events and skips none. To keep to one runner at a time
    is the user's duty there.
    """

    def __init__(self, storage: Storage, *, store_id: str) -> None:
        self._storage = storage
        self._store_id = store_id
        self._warned = False
        self._there: dict[str, list[int]] = {}
        """By name, the revisions that there are, in order, as far as is known."""

    # reading ---------------------------------------------------------------------------------------------

    def newest(self, name: str) -> tuple[int, Checkpoint | None]:
        """Return the largest revision that is taken (0: none), and the newest checkpoint that is whole.

        A damaged file is passed over for the one before it, with a warning: events come again.

        Raises
        ------
        IntegrityError
            There are files, and none is whole (code ``checkpoint_damaged``).
        FormatError
            Written by a newer version (``newer_format``), or for another store (``other_store``).
        """
        check_name(name)
        for _ in range(_MOST_LOOKS):
            revisions = self._there[name] = self._revisions(name)
            try:
                return (revisions[-1], self._newest_whole(name, revisions)) if revisions else (0, None)
            except NotFoundError:
                continue  # a runner has just removed it: the listing is old
        raise StorageError(
            f"the checkpoints of {name!r} in {self._storage.url} changed during each of {_MOST_LOOKS} looks; "
            "try again",
            code="checkpoint_races",
            transient=True,
            subscription=name,
        )

    def _newest_whole(self, name: str, revisions: list[int]) -> Checkpoint:
        *older, newest = revisions
        path = layout.subscription_path(name, newest)
        try:
            return decode_checkpoint(path, self._storage.read(path), store_id=self._store_id)
        except IntegrityError as error:
            if not older:
                raise
            logger.warning("%s", error)
            return self._newest_whole(name, older)

    def all(self) -> list[Checkpoint]:
        """Return the newest checkpoint of every subscription, by name; damaged ones are left out.

        Raises FormatError as `newest` does; what is damaged is logged.
        """
        paths = (layout.parse_subscription(entry.path) for entry in self._storage.files(layout.SUBSCRIPTIONS))
        found = []
        for name in sorted({path[0] for path in paths if path is not None}):
            try:
                _, checkpoint = self.newest(name)
            except IntegrityError as error:
                logger.warning("%s", error)
                continue
            if checkpoint is not None and checkpoint.state is not SubscriptionState.DELETED:
                found.append(checkpoint)
        return found

    def read_all(self) -> tuple[list[Checkpoint], list[EventStoreError]]:
        """Read every file; returns what the whole ones say, and what is wrong with the others."""
        whole: list[Checkpoint] = []
        faults: list[EventStoreError] = []
        for entry in self._storage.files(layout.SUBSCRIPTIONS):
            if layout.parse_subscription(entry.path) is None:
                continue
            try:
                raw = self._storage.read(entry.path)
                whole.append(decode_checkpoint(entry.path, raw, store_id=self._store_id))
            except NotFoundError:
                continue  # only the last two are kept, and someone has just written the next
            except EventStoreError as error:
                faults.append(error)
        return whole, faults

    def _revisions(self, name: str) -> list[int]:
        entries = self._storage.files(layout.subscription_folder(name))
        paths = (layout.parse_subscription(entry.path) for entry in entries)
        return sorted(path[1] for path in paths if path is not None)

    # writing ---------------------------------------------------------------------------------------------

    def put(self, checkpoint: Checkpoint) -> Checkpoint:
        """Store a checkpoint under its revision, and remove those before the last two.

        Returns
        -------
        What was stored; its revision is later if this runner had written the asked one before, and was
        not told.

        Raises
        ------
        ConflictError
            Another runner has gone on (code ``subscription_taken``).
        """
        path = layout.subscription_path(checkpoint.name, checkpoint.revision)
        if not self._create(path, encode_checkpoint(checkpoint)):
            if not self._is_of(path, checkpoint.runner):
                raise subscription_taken(checkpoint.name, path)
            self._there.setdefault(checkpoint.name, []).append(checkpoint.revision)
            return self.put(replace(checkpoint, revision=checkpoint.revision + 1))
        before = layout.subscription_path(checkpoint.name, checkpoint.revision - 1)
        if checkpoint.revision > 1 and not self._storage.exists(before):
            # Files are removed in order, so the name was free because others are far ahead.
            self._storage.delete(path)
            raise subscription_taken(checkpoint.name, path)
        self._prune(checkpoint)
        return checkpoint

    def _create(self, path: str, raw: bytes) -> bool:
        if self._storage.abilities.atomic_create:
            try:
                return self._storage.create(path, raw)
            except StorageError as error:
                if error.code != "no_atomic_create":
                    raise
        if not self._warned:
            self._warned = True
            logger.warning(
                "%s has no atomic put-if-absent, so two runners of one subscription would not notice each "
                "other: let only one run at a time",
                self._storage.url,
            )
        if self._storage.exists(path):
            return False
        self._storage.put(path, raw)
        return True

    def _is_of(self, path: str, runner: str) -> bool:
        try:
            found = decode_checkpoint(path, self._storage.read(path), store_id=self._store_id)
        except (NotFoundError, IntegrityError, FormatError):
            return False
        return found.runner == runner

    def _prune(self, checkpoint: Checkpoint) -> None:
        there = self._there.setdefault(checkpoint.name, [])
        there.append(checkpoint.revision)
        keep = 1 if checkpoint.state is SubscriptionState.DELETED else 2
        try:
            while len(there) > keep:
                self._storage.delete(layout.subscription_path(checkpoint.name, there[0]))
                del there[0]  # only now, so that they go in order: see `put`
        except StorageError as error:
            logger.warning("an old checkpoint was not deleted, which does no harm: %s", error)
