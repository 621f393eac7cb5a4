"""Previews of stored values, without running code from the data."""

from eventstore.preview.value import Preview, preview_pickle, preview_value

__all__ = ["Preview", "preview_pickle", "preview_value"]
