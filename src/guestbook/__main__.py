"""The program: `guestbook` and `python -m guestbook`."""

from guestbook import signals


def main() -> None:
    """Runs the command line."""
    # First of all: what comes next takes a while to import.
    signals.handle()
    from guestbook.cli import app  # noqa: PLC0415

    app(prog_name="guestbook")


if __name__ == "__main__":
    main()
