"""Text descriptions of control commands."""

from __future__ import annotations

from orchestrator.journal.events import ControlReceived


def command_line(event: ControlReceived) -> str:
    """Return one line with the command, its sender and, if refused, the reason."""
    values = [
        f"{name} {_shown(value)}" if name != "trial_id" else str(value) for name, value in event.arguments.items()
    ]
    sender = f" by {event.sender}" if event.sender else ""
    refused = f"; refused: {event.refused}" if event.refused else ""
    return f"{' '.join(['received:', event.command, *values])}{sender}{refused}"


def more_trials(event: ControlReceived) -> int:
    """Return the number of configurations that a command adds to the planned ones."""
    if event.refused:
        return 0
    return (
        1 if event.command == "enqueue" else int(event.arguments.get("trials") or 0) if event.command == "extend" else 0
    )


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
