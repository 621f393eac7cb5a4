"""The repository's own programs: benchmarks, emulator launchers, makers of golden files. Not installed."""
