"""Commands to a running sweep: small objects in its storage that its driver polls, so a laptop can send them."""

from __future__ import annotations

import getpass
import json
import os
import secrets
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.errors import DamagedError, NotFoundError
from orchestrator.storage import layout
from orchestrator.storage.base import Storage
from orchestrator.storage.documents import read_model


@dataclass(frozen=True)
class Command:
    """A command by name (``orchestrator.sweep.commands.NAMES``), with its arguments; ``key`` is its object."""

    key: str
    name: str
    arguments: Mapping[str, Any]
    sender: str = ""
    """``user@host``."""
    sent: float | None = None
    """Seconds since the epoch, by the sender's clock."""
    damage: str = ""
    """Why the object is no command; empty for a command. ``name`` is ``UNREADABLE`` then."""


UNREADABLE = "unreadable"
"""Name in the journal of an object that is no command."""


class _Document(BaseModel):
    """A command as it is stored."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    command: str = Field(min_length=1, max_length=100)
    arguments: dict[str, Any]
    sender: str = ""
    sent: float | None = None


def send(storage: Storage, sweep_id: str, name: str, arguments: Mapping[str, Any] | None = None) -> Command:
    """Leave a command for the driver of ``sweep_id``."""
    key = f"{layout.control(sweep_id)}/{time.time_ns():020d}-{secrets.token_hex(4)}.json"
    command = Command(key=key, name=name, arguments=dict(arguments or {}), sender=sender(), sent=time.time())
    document = {"command": name, "arguments": command.arguments, "sender": command.sender, "sent": command.sent}
    storage.create(key, json.dumps(document).encode())
    return command


def sender() -> str:
    """This account on this machine, as ``user@host``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


WORK = ("extend", "enqueue", "retry", "continue")
"""Commands that continue an ended sweep."""


def asks_for_work(storage: Storage, sweep_id: str, *, obeyed: set[str]) -> bool:
    """Return whether a command that is not in ``obeyed`` gives the sweep more to do."""
    return any(command.name in WORK and not command.damage for command in pending(storage, sweep_id, obeyed=obeyed))


def pending(storage: Storage, sweep_id: str, *, obeyed: set[str]) -> list[Command]:
    """Return the commands that are not in ``obeyed``, oldest first.

    An object that is not a command is one with a ``damage``: who can write to the storage must not be able to end a
    driver with it.
    """
    commands = []
    for info in storage.list(layout.control(sweep_id)):
        if info.key in obeyed:
            continue
        try:
            document = read_model(storage, info.key, _Document)
        except NotFoundError:  # removed since it was listed
            continue
        except DamagedError as error:
            commands.append(Command(info.key, UNREADABLE, {}, damage=f"it is no command of `agr`: {error}"))
        else:
            commands.append(
                Command(info.key, document.command, document.arguments, sender=document.sender, sent=document.sent)
            )
    return commands
