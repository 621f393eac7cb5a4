"""Benchmarks of redun's backend on an event store, beside redun's own on SQLite, through the same calls."""
