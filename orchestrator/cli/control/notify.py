"""``agr notify``: check the addresses of ``AGR_NOTIFY``."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.common import EXIT_FAILED, errors_in_one_line, say


def register(app: typer.Typer) -> None:
    """Add the command of this module to ``app``."""
    app.command()(notify)


def notify(
    test: Annotated[bool, typer.Option("--test", help="Send a message to each address.")] = False,
) -> None:
    """Check the addresses of AGR_NOTIFY, which get a message when a sweep ends, fails or nears its budget.

    Exit code 1 if an address rejects the message. Example: agr notify --test
    """
    with errors_in_one_line():
        from agr_core.errors import InputError
        from orchestrator.catalog.control import sender
        from orchestrator.notify.messages import Message
        from orchestrator.notify.notifier import Addresses
        from orchestrator.settings import Settings

        text = Settings.from_environment().notify
        if text is None:
            raise InputError("AGR_NOTIFY is not set; set it to addresses in Apprise's format (docs/cost.md).")
        addresses = Addresses(text)
        if not test:
            say("AGR_NOTIFY is valid; --test sends a message.")
            return
        problems = addresses.send(Message("agr notify --test", f"Sent by {sender()}."))
        for problem in problems:
            say(f"error: {problem}")
        if problems:
            raise typer.Exit(EXIT_FAILED)
        say("every address of AGR_NOTIFY accepted the message")
