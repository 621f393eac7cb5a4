"""The log as redun's own SQL tables, so that redun's own tools read it."""

from eventstore.redun.mirror.mirror import SqlMirror

__all__ = ["SqlMirror"]
