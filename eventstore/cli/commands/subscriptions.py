"""`eventstore subscriptions`: where named subscriptions stand, and what an operator may do about it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

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
    it, skips the events, or seeks elsewhere. Actions are shown first, and done with --apply; a program
    that runs the subscription then stops.
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
                _act(opened.subscription(name), asked[0], seek=seek, apply=apply)
        head = opened.head().size
        known = [one for one in opened.subscriptions() if name is None or one.name == name]
    if json:
        for one in known:
            render.json_line({**asdict(one), "behind": max(0, head - one.position)})
    else:
        _show(known, head)


def _check_is_there(store: EventStore, name: str) -> None:
    """An action must not make a subscription of a misspelled name."""
    names = [one.name for one in store.subscriptions()]
    if name not in names:
        raise NotFoundError(
            f"a subscription {name!r} was expected in {store.url}, found {', '.join(names) or 'none'}",
            code="no_such_subscription",
            subscription=name,
        )


def _act(subscription: Subscription, action: str, *, seek: int | None, apply: bool) -> None:
    plan = _plan(subscription, action, seek)
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


def _plan(subscription: Subscription, action: str, seek: int | None) -> str:
    name, position, failure = subscription.name, f"position {subscription.position:,}", subscription.failure
    if seek is not None:
        return f"{name} goes on at position {seek:,} instead of {position}"
    if action == "--delete":
        return f"{name} is forgotten, which stands at {position}"
    if failure is None:
        return f"{name} is not parked: it stands at {position}"
    return (
        f"{name} goes on {f'at {position}' if action == '--resume' else f'behind position {failure.last:,}'}"
    )


def _show(known: list[Checkpoint], head: int) -> None:
    if not known:
        render.note("no subscription")
        return
    render.table(
        ("name", "state", "stands at", "behind", "updated", "kinds"),
        [
            (
                one.name,
                str(one.state),
                f"{one.position:,}",
                f"{max(0, head - one.position):,}",
                one.updated_at,
                "all" if one.kinds is None else ", ".join(one.kinds),
            )
            for one in known
        ],
        right=("stands at", "behind"),
    )
    for one in known:
        if one.failure is not None:
            events = f"{one.failure.first:,} to {one.failure.last:,}"
            render.warning(
                f"{one.name} is parked: positions {events} were not taken in {one.failure.attempts} "
                f"attempts. {one.failure.error_type}: {render.visible(safe_text(one.failure.message))}"
            )
