"""A store's history into a database of redun's own."""

from eventstore.redun.exporting.export import ExportReport, export_to_redun

__all__ = ["ExportReport", "export_to_redun"]
