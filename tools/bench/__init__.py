"""Benchmarks: each measures us beside a limit or a peer in one run. See README.md in this folder."""
