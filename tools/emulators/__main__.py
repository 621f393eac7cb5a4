"""``python -m tools.emulators``: install what pip cannot, which is Azurite, beside this environment."""

from __future__ import annotations

import sys

from tools.emulators.azure import AZURITE, install


def main() -> int:
    """Install Azurite unless it is there; the exit code is npm's."""
    status = install()
    print(f"Azurite {'is in' if not status else 'could not be installed into'} {AZURITE}")
    return status


if __name__ == "__main__":
    sys.exit(main())
