"""The program: `guestbook` and `python -m guestbook`."""

import gc

from guestbook.cli import signals


def main() -> None:
    """Run the command line."""
    # First of all, because the imports below take a while.
    signals.handle()
    # Imported modules stay, and streams are no garbage: the collector need not look through all of
    # them each time that a few more were made.
    gc.set_threshold(20_000, 20, 50)
    from guestbook.cli.main import app  # noqa: PLC0415

    app(prog_name="guestbook")


if __name__ == "__main__":
    main()
