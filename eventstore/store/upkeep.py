"""What keeps an open store in order: compaction, cleaning, verification, and exchange with other stores."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from eventstore.errors import StorageError
from eventstore.filesystem import Storage
from eventstore.journal_folder import JournalFolder
from eventstore.log.cleaning import GRACE, CleanPlan, CleanReport
from eventstore.log.compaction import CompactionGoals, CompactionReport
from eventstore.log.maintenance import Maintenance
from eventstore.log.sequence import Head, SealSequence
from eventstore.log.transfer import Side, TransferReport, plan_transfer, transfer
from eventstore.log.verify import VerifyReport, verify_store
from eventstore.value_store import ValueStore

if TYPE_CHECKING:
    from eventstore.store.event_store import EventStore

__all__ = ["Upkeep", "despite_links"]

Result = TypeVar("Result")


class Upkeep:
    """The part of `EventStore` that checks and rearranges what is stored."""

    storage: Storage
    store_id: str
    values: ValueStore
    _clock: Callable[[], int]
    _folder: JournalFolder | None
    _maintenance: Maintenance
    _sequence: SealSequence
    _single_sealer: bool

    def _check_open(self) -> None:
        raise NotImplementedError

    def _check_writable(self) -> None:
        raise NotImplementedError

    def seal(self, *, everywhere: bool = False) -> Head:
        """See `EventStore.seal`."""
        raise NotImplementedError

    def pull(
        self,
        other: EventStore,
        *,
        apply: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> TransferReport:
        """Take over what is sealed in another store and missing here: events, and the values they mention.

        Events keep their writer, number, salt and hash, and get positions of this store, in the order of the
        other's. So a second call, or one by way of a third store, adds nothing. To send, call it on the other
        store.

        Parameters
        ----------
        other
            An open store; read-only is enough.
        apply
            Otherwise only plan, and count the values too; then nothing is changed.
        progress
            Called with (events sealed here, events that were missing).

        Raises
        ------
        InvalidEventError
            The other store is this one, or a copy of it (code ``same_store``); or one of its values is larger
            than `max_value_bytes`.
        IntegrityError, NotFoundError
            A segment or a value of the other store is damaged or gone. What stands before it was taken over.
        StateError
            This store is read-only or closed.
        """
        sides = other._side(), self._side()
        if not apply:
            return TransferReport(plan_transfer(*sides, values=True))
        self._check_writable()
        self._check_open()
        return despite_links(
            lambda: transfer(*sides, clock=self._clock, progress=progress),
            single_sealer=self._single_sealer,
        )

    def _side(self) -> Side:
        return Side(self.storage, self.store_id, self._sequence, self.values)

    def compact(
        self,
        *,
        apply: bool = True,
        goals: CompactionGoals | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> CompactionReport:
        """Merge many small segments into few large ones, laid out for readers; events and root stay.

        What is durable is sealed first. Each new file is decoded again and compared with what went into it
        before a seal names it. The old files stay until `clean`.

        Parameters
        ----------
        apply
            Otherwise only plan; then nothing is changed.
        goals
            How large files may become; None takes the format's own.
        progress
            Called with (events written, events to write).

        Raises
        ------
        IntegrityError
            A segment is damaged, or a new file did not read back; it was not published.
        ConflictError
            Another process of this machine is compacting (code ``compacting``).
        StateError
            The store is read-only or closed.
        """
        if not apply:
            return CompactionReport(self._maintenance.plan_compaction(goals))
        self.seal()
        return despite_links(
            lambda: self._maintenance.compact(goals=goals, progress=progress),
            single_sealer=self._single_sealer,
        )

    def clean(
        self,
        *,
        apply: bool = True,
        grace: dt.timedelta = GRACE,
        plan: CleanPlan | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> CleanReport:
        """Remove files that compaction has made needless, after a grace period.

        Parameters
        ----------
        apply
            Otherwise only plan; then nothing is changed.
        grace
            How long a file stays after it has become needless; longer than any reader holds on to the
            sequence that it took.
        plan
            That of an earlier call, to act on just that; None makes one now.
        progress
            Called with (files removed, files to remove).

        Raises
        ------
        IntegrityError
            The chain is broken, or what is to stay is damaged: nothing was removed.
        StateError
            The store is read-only or closed.
        """
        to_do = plan if plan is not None else self._maintenance.plan_cleaning(grace)
        if not apply:
            return CleanReport(to_do)
        self._check_writable()
        self._check_open()
        return self._maintenance.clean(to_do, progress=progress)

    def verify(
        self, *, values: bool = True, progress: Callable[[int, int], None] | None = None
    ) -> VerifyReport:
        """Check everything against everything; see `verify_store`."""
        return verify_store(
            self.storage,
            store_id=self.store_id,
            folder=self._folder,
            check_values=values,
            progress=progress,
        )


def despite_links(action: Callable[[], Result], *, single_sealer: bool) -> Result:
    """Do `action`, and again if it found out that this filesystem has no hard links: then it goes without."""
    try:
        return action()
    except StorageError as error:
        if error.code != "no_atomic_create" or not single_sealer:
            raise
        return action()
