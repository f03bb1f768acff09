"""The program: `guestbook` and `python -m guestbook`."""

import gc
import signal
import sys

from guestbook.cli import signals


def main() -> None:
    """Run the command line."""
    # First of all, because the imports below take a while.
    signals.handle()
    from guestbook.cli import stdio  # noqa: PLC0415

    stdio.replace_standard_streams()
    # Imported modules stay, and streams are no garbage: the collector need not look through all of
    # them each time that a few more were made.
    gc.set_threshold(20_000, 20, 50)
    from guestbook.cli.main import app  # noqa: PLC0415

    try:
        app(prog_name="guestbook")
    except stdio.OutputError as error:
        if error.is_broken_pipe:
            # The reader has left, as `head` does: end as other programs do then.
            signals.exit_by_signal(signal.SIGPIPE)
        print(f"guestbook: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
