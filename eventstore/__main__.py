"""``python -m eventstore``: the command line."""

from eventstore.cli.app import main

if __name__ == "__main__":
    main()
