"""Which local paths a glob pattern matches: as Python's ``glob`` finds them, but loops and refusals are told.

``**`` follows links to folders. A link that leads back to a folder above it is an error here, as the files
below it have no end of names; so is a folder that may not be listed, as changes in it would go unseen.
Names that begin with a dot are left out unless the pattern has the dot.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import re
import stat
from collections.abc import Callable, Iterator
from functools import lru_cache

__all__ = ["glob_local", "walk_files"]

_MAGIC = re.compile(r"[*?[]")


def walk_files(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield path and state of every regular file at any depth below `folder`, which is taken literally.

    Raises
    ------
    OSError
        A folder may not be listed, or (ELOOP) a link leads back to a folder above it.
    """
    waiting = [_with_slash(folder)]
    while waiting:
        here = waiting.pop()
        for entry in _entries(here):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                _refuse_loop(here, entry)
                waiting.append(f"{here}{entry.name}/")
            elif entry.is_symlink():
                found = _state(entry.path)
                if found is not None and stat.S_ISREG(found.st_mode):
                    yield here + entry.name, found
            elif entry.is_file():
                found = _state(entry.path)  # gone since it was listed, perhaps
                if found is not None:
                    yield here + entry.name, found


def glob_local(pattern: str) -> Iterator[str]:
    """Yield the paths, files and folders, that a pattern matches; ``**`` means any depth."""
    magic = _MAGIC.search(pattern)
    if magic is None:
        if _state(pattern, follow=False) is not None:
            yield pattern
        return
    cut = pattern.rfind("/", 0, magic.start()) + 1
    head = pattern[:cut]
    if head.strip("/"):
        head = head.rstrip("/") + "/"
    *parts, last = pattern[cut:].split("/")
    yield from _match(head, [part for part in parts if part] + [last])


def _match(base: str, parts: list[str]) -> Iterator[str]:
    part, rest = parts[0], parts[1:]
    if part == "**":
        for folder in _folders(base):
            if rest:
                yield from _match(folder, rest)
            else:
                yield from (folder + entry.name for entry in _entries(folder) if entry.name[0] != ".")
        if not rest and base and _is_folder(base):
            yield base
    elif _MAGIC.search(part):
        fits = _matcher(part)
        for entry in _entries(base):
            if fits(entry.name) and (part[0] == "." or entry.name[0] != "."):
                if not rest:
                    yield base + entry.name
                elif entry.is_dir():
                    yield from _match(f"{base}{entry.name}/", rest)
    elif rest:
        yield from _match(f"{base}{part}/", rest)
    elif _state(base + part, follow=False) is not None if part else _is_folder(base):
        yield base + part


def _folders(base: str) -> Iterator[str]:
    """Yield `base` and all folders below it, each with a slash at its end."""
    waiting = [base]
    while waiting:
        here = waiting.pop()
        yield here
        for entry in _entries(here):
            if entry.name[0] != "." and entry.is_dir():
                _refuse_loop(here, entry)
                waiting.append(f"{here}{entry.name}/")


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder or ".") as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _refuse_loop(here: str, entry: os.DirEntry[str]) -> None:
    """Raise ELOOP if `entry`, a folder in `here`, is a link to a folder on the way to it."""
    if not entry.is_symlink():
        return
    target = entry.stat()
    above = here.rstrip("/") or here or "."
    while above:
        found = os.stat(above)
        if (found.st_dev, found.st_ino) == (target.st_dev, target.st_ino):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), here + entry.name)
        above = "" if above == "/" else os.path.dirname(above).rstrip("/") or ("/" if above[0] == "/" else "")


def _state(path: str, *, follow: bool = True) -> os.stat_result | None:
    # Not os.path.exists and the like: for them a folder that may not be entered has nothing in it.
    try:
        return os.stat(path, follow_symlinks=follow)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_folder(path: str) -> bool:
    found = _state(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def _with_slash(folder: str) -> str:
    return folder if folder.endswith("/") or not folder else f"{folder}/"


@lru_cache(maxsize=256)
def _matcher(part: str) -> Callable[[str], object]:
    return re.compile(fnmatch.translate(part)).match
