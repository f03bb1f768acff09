"""The program: `guestbook` and `python -m guestbook`."""

import gc

from guestbook.cli import signals


def main() -> None:
    """Runs the command line."""
    # First of all: what comes next takes a while to import.
    signals.handle()
    # What is imported stays, and streams are no garbage: the collector need not look through all
    # of them for every few that are made.
    gc.set_threshold(20_000, 20, 50)
    from guestbook.cli.main import app  # noqa: PLC0415

    app(prog_name="guestbook")


if __name__ == "__main__":
    main()
