"""``store.json``: what makes a folder a store, written once and never changed."""

from __future__ import annotations

import datetime as dt
import uuid

from eventstore import layout
from eventstore.codec.payload import dump_json, load_json
from eventstore.codec.schema import FORMAT_VERSION
from eventstore.errors import FormatError, IntegrityError, NotFoundError
from eventstore.filesystem import Storage

__all__ = ["open_store_file"]


def open_store_file(storage: Storage, *, create: bool, software: str) -> str:
    """Return the id of the store at `storage`; with `create`, make the store if the place is empty.

    Raises
    ------
    NotFoundError
        Nothing is there (code ``store_not_found``).
    FormatError
        Other files are there (``not_a_store``), or a store of a newer format (``newer_format``).
    """
    for _ in range(2):
        try:
            raw = storage.read(layout.STORE_FILE)
        except NotFoundError:
            taken = bool(storage.folders("") or storage.files(""))
            if taken and storage.exists(layout.STORE_FILE):
                continue  # someone else has made the store in the meantime
            if taken:
                raise _not_a_store(storage.url) from None
            if not create:
                raise NotFoundError(
                    f"an event store was expected at {storage.url}, found nothing there; make one with "
                    "EventStore.open(..., create=True), or correct the path",
                    code="store_not_found",
                    url=storage.url,
                ) from None
            _make(storage, software)
            continue
        return _checked_id(storage.url, raw)
    raise _not_a_store(storage.url)


def _make(storage: Storage, software: str) -> None:
    about = {
        "created_at": dt.datetime.now(dt.UTC).isoformat(),
        "created_by": software,
        "format": FORMAT_VERSION,
        "kind": "eventstore",
        "store_id": uuid.uuid4().hex,
    }
    raw = dump_json(about, indent=True) + b"\n"
    if storage.abilities.atomic_create:
        storage.create(layout.STORE_FILE, raw)
    else:
        storage.put(layout.STORE_FILE, raw)


def _checked_id(url: str, raw: bytes) -> str:
    try:
        about = load_json(raw, where=f"{url}/{layout.STORE_FILE}")
        kind, format_version, store_id = about["kind"], about["format"], about["store_id"]
    except (IntegrityError, KeyError, TypeError) as error:
        raise _not_a_store(url) from error
    if kind != "eventstore" or not isinstance(store_id, str) or not store_id.isalnum():
        raise _not_a_store(url)
    if format_version != FORMAT_VERSION:
        raise FormatError(
            f"a store of format {FORMAT_VERSION} was expected at {url}, found format {format_version}; "
            "upgrade eventstore to open it. Nothing was changed",
            code="newer_format",
            url=url,
        )
    return store_id


def _not_a_store(url: str) -> FormatError:
    return FormatError(
        f"an event store was expected at {url}, found files and no valid {layout.STORE_FILE}; choose "
        "another folder. Nothing was changed",
        code="not_a_store",
        url=url,
    )
