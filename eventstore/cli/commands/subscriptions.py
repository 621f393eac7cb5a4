"""`eventstore subscriptions`: where named subscriptions stand, and what an operator may do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Self

import typer

from eventstore.cli import options, render
from eventstore.cli.exits import safe_text
from eventstore.errors import NotFoundError

if TYPE_CHECKING:
    from eventstore.log.subscription import Checkpoint, Subscription
    from eventstore.store import EventStore

__all__ = ["subscriptions"]


def subscriptions(
    store: options.Store,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", show_default=False, help="Only this one, and what to act on."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Let it run again, with the events that it was parked for.")
    ] = False,
    skip: Annotated[
        bool, typer.Option("--skip", help="Let it go on behind the events that it was parked for.")
    ] = False,
    seek: Annotated[
        int | None, typer.Option(metavar="POSITION", min=0, help="Let it go on at this position.")
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Forget where it stands.")] = False,
    apply: Annotated[
        bool, typer.Option("--apply", help="Do what is planned; else it is only shown.")
    ] = False,
    json: options.AsJson = False,
    _debug: options.Debug = False,
) -> None:
    """Show where named subscriptions stand.

    A subscription whose handler failed again and again is parked, with its error, until someone resumes
    it, skips the events, or seeks elsewhere. A foreign one stands in another history of the log, as after
    a restore from an older copy, and runs only after a seek. Actions are shown first, and done with
    --apply; a program that runs the subscription then stops.
    """
    from eventstore.store import EventStore

    actions = {"--resume": resume, "--skip": skip, "--seek": seek is not None, "--delete": delete}
    asked = [option for option, wanted in actions.items() if wanted]
    if len(asked) > 1:
        raise typer.BadParameter("one of these at a time was expected", param_hint=", ".join(asked))
    if asked and name is None:
        raise typer.BadParameter("the subscription to act on was expected: --name", param_hint=asked[0])
    with EventStore.open(store, read_only=not (asked and apply)) as opened:
        if name is not None:
            _check_is_there(opened, name)
            if asked:
                _act(opened, name, asked[0], seek=seek, apply=apply)
        head = opened.head().size
        known = [_Known.of(opened, one, head) for one in opened.subscriptions() if name in (None, one.name)]
    if json:
        for one in known:
            render.json_line({**asdict(one.checkpoint), "foreign": one.is_foreign, "behind": one.behind})
    else:
        _show(known)


@dataclass(frozen=True, slots=True)
class _Known:
    """A subscription as the log has it."""

    checkpoint: Checkpoint
    is_foreign: bool
    """It stands in another history of the log, so that its position says nothing here."""
    behind: int | None
    """Sealed events after its position; None if it is foreign."""

    @classmethod
    def of(cls, store: EventStore, checkpoint: Checkpoint, head: int) -> Self:
        foreign = _is_foreign(store, checkpoint)
        return cls(checkpoint, foreign, None if foreign else max(0, head - checkpoint.position))


def _is_foreign(store: EventStore, checkpoint: Checkpoint) -> bool:
    from eventstore.log.subscription import is_of_log

    return not is_of_log(checkpoint, store.head_at(checkpoint.seal))


def _check_is_there(store: EventStore, name: str) -> None:
    """An action must not make a subscription of a misspelled name."""
    names = [one.name for one in store.subscriptions()]
    if name not in names:
        raise NotFoundError(
            f"a subscription {name!r} was expected in {store.url}, found {', '.join(names) or 'none'}",
            code="no_such_subscription",
            subscription=name,
        )


def _act(store: EventStore, name: str, action: str, *, seek: int | None, apply: bool) -> None:
    subscription = store.subscription(name)
    plan = _plan(subscription, action, seek, foreign=_is_foreign(store, subscription.checkpoint))
    if not apply:
        render.say(plan)
        render.note("nothing was changed; --apply does it")
        return
    if seek is not None:
        subscription.seek(seek)
    elif action == "--resume":
        subscription.resume()
    elif action == "--skip":
        subscription.skip()
    else:
        subscription.delete()
    render.say(plan)


def _plan(subscription: Subscription, action: str, seek: int | None, *, foreign: bool) -> str:
    name, position, failure = subscription.name, f"position {subscription.position:,}", subscription.failure
    if seek is not None:
        return f"{name} goes on at position {seek:,} instead of {position}"
    if action == "--delete":
        return f"{name} is forgotten, which stands at {position}"
    if foreign:
        return f"{name} stands at {position} of another history of the log: only --seek lets it go on"
    if failure is None:
        return f"{name} is not parked: it stands at {position}"
    return (
        f"{name} goes on {f'at {position}' if action == '--resume' else f'behind position {failure.last:,}'}"
    )


def _show(known: list[_Known]) -> None:
    if not known:
        render.note("no subscription")
        return
    render.table(
        ("name", "state", "stands at", "behind", "updated", "kinds"),
        [
            (
                one.checkpoint.name,
                "foreign" if one.is_foreign else str(one.checkpoint.state),
                f"{one.checkpoint.position:,}",
                "" if one.behind is None else f"{one.behind:,}",
                one.checkpoint.updated_at,
                "all" if one.checkpoint.kinds is None else ", ".join(one.checkpoint.kinds),
            )
            for one in known
        ],
        right=("stands at", "behind"),
    )
    for shown in known:
        one = shown.checkpoint
        if shown.is_foreign:
            render.warning(
                f"{one.name} stands in another history of the log, or beyond its end: --seek it to where to "
                "go on, or --delete it"
            )
        elif one.failure is not None:
            events = f"{one.failure.first:,} to {one.failure.last:,}"
            render.warning(
                f"{one.name} is parked: positions {events} were not taken in {one.failure.attempts} "
                f"attempts. {one.failure.error_type}: {render.visible(safe_text(one.failure.message))}"
            )
