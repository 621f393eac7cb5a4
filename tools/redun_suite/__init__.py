"""redun's own test suite, unchanged, on our backend: `python -m tools.redun_suite`, or `make redun-suite`."""
