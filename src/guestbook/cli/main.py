"""The command line: one Typer application, with a module for each group of commands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated

import typer

from guestbook import __version__
from guestbook.cli import messages, moderation, serve, transfer
from guestbook.cli.signals import cleanup_on_signal
from guestbook.cli.store import find_redis, load_settings
from guestbook.settings import variables
from guestbook.storage import inspect

app = typer.Typer(
    name="guestbook",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _settings_help() -> str:
    lines = []
    for name, default, meaning in variables():
        lines.append(f"{name}  [{default}]" if default else name)
        lines.append(f"    {meaning}.")
    return "\b\nSettings, from the environment:\n\n\b\n" + "\n".join(lines)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"guestbook {__version__}")
        raise typer.Exit


@app.callback(help="A live guestbook: messages in a Redis stream, pushed to every open page.")
def main(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Hold the options that come before a command."""


app.command("serve", epilog=_settings_help())(cleanup_on_signal()(serve.serve))
_COMMANDS: dict[str, Callable[..., None]] = {
    "list": messages.list_messages,
    "delete": messages.delete_messages,
    "clear": messages.clear,
    "held": moderation.held,
    "approve": moderation.approve,
    "refuse": moderation.refuse,
    "moderation": moderation.moderation,
    "close": moderation.close,
    "open": moderation.open_guestbook,
    "ban": moderation.ban,
    "bans": moderation.bans,
    "unban": moderation.unban,
    "export": transfer.export_messages,
    "import": transfer.import_messages,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(cleanup_on_signal()(_command))


@app.command()
def check() -> None:
    """Check whether the Redis at REDIS_URL suits the settings.

    It suggests improvements. The exit status is 1 if the guestbook would not work.
    """
    settings = load_settings()
    found = asyncio.run(
        inspect(
            find_redis(settings),
            wait_replicas=settings.wait_replicas,
            lab=settings.lab,
            legacy_api=settings.legacy_api,
        )
    )
    for finding in found:
        typer.echo(str(finding))
    if any(finding.mark == "fail" for finding in found):
        raise typer.Exit(1)
