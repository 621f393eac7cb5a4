"""Shell commands that copy files: the text that puts a remote file where a script can read it, and back.

S3 and Google have commands of their own; everything else is copied by ``python -m eventstore.file``, which
must then be installed where the script runs. All paths are quoted.
"""

from __future__ import annotations

import shlex

from eventstore.errors import InvalidEventError
from eventstore.file.places import LOCAL, protocol_of

__all__ = ["COPY_COMMAND", "render_copy"]

COPY_COMMAND = "python3 -m eventstore.file copy"
"""What copies where no command of the protocol's own can."""


def render_copy(
    source: str | None, target: str | None, *, recursive: bool = False, as_mount: bool = False
) -> str:
    """Return the command that copies `source` to `target`; None is standard input, or standard output.

    Parameters
    ----------
    recursive
        Copy a folder with all that is in it.
    as_mount
        Google buckets are mounted below ``/mnt/disks`` where the command runs.

    Raises
    ------
    InvalidEventError
        Both are None (``no_path``), or one of a folder is (``no_stream_of_folder``).
    """
    if source is None and target is None:
        raise InvalidEventError("a path to copy from or to was expected, found none", code="no_path")
    if recursive and (source is None or target is None):
        raise InvalidEventError(
            "two folders were expected for a recursive copy, found a stream; name both",
            code="no_stream_of_folder",
        )
    protocols = {protocol_of(path) for path in (source, target) if path is not None}
    if "gs" in protocols and as_mount and protocols <= {LOCAL, "gs"}:
        made = target is not None and protocol_of(target) == "gs"
        return _local(_mounted(source), _mounted(target), recursive=recursive, make_parent=made)
    if protocols == {LOCAL}:
        return _local(source, target, recursive=recursive)
    if "s3" in protocols and protocols <= {LOCAL, "s3"}:
        return _words("aws s3 cp --no-progress" + " --recursive" * recursive, source, target)
    if "gs" in protocols and protocols <= {LOCAL, "gs"}:
        return _words("gsutil cp" + " -r" * recursive, source, target)
    return _words(COPY_COMMAND + " --recursive" * recursive, source, target)


def _words(command: str, source: str | None, target: str | None) -> str:
    return f"{command} {_word(source)} {_word(target)}"


def _word(path: str | None) -> str:
    if path is None:
        return "-"
    # A name that begins with a dash is no option.
    return shlex.quote(f"./{path}" if path.startswith("-") else path)


def _local(
    source: str | None, target: str | None, *, recursive: bool = False, make_parent: bool = False
) -> str:
    if target is None:
        return f"cat {_word(source)}"
    first = f"mkdir -p {_word(target.rpartition('/')[0] or '.')} && " if make_parent else ""
    if source is None:
        return f"{first}cat > {_word(target)}"
    return f"{first}cp{' -r' * recursive} {_word(source)} {_word(target)}"


def _mounted(path: str | None) -> str | None:
    return f"/mnt/disks/{path[5:]}" if path is not None and path.startswith("gs://") else path
