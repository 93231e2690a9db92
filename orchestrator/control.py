"""Commands to a running sweep: small objects in its storage, polled by its driver, so they work from a laptop."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agr_core.errors import IntegrityError
from orchestrator.storage import layout
from orchestrator.storage.base import Storage


@dataclass(frozen=True)
class Command:
    """``stop`` (the sweep) or ``kill`` (``{"trial_id": ...}``); ``key`` is its object."""

    key: str
    name: str
    arguments: Mapping[str, Any]


def send(storage: Storage, sweep_id: str, name: str, arguments: Mapping[str, Any] | None = None) -> Command:
    """Leave a command for the driver of ``sweep_id``."""
    key = f"{layout.control(sweep_id)}/{time.time_ns():020d}-{secrets.token_hex(4)}.json"
    command = Command(key=key, name=name, arguments=dict(arguments or {}))
    storage.create(key, json.dumps({"command": name, "arguments": command.arguments}).encode())
    return command


def pending(storage: Storage, sweep_id: str, *, obeyed: set[str]) -> list[Command]:
    """Commands that are not in ``obeyed``, oldest first.

    Raises:
        IntegrityError: If an object there is not a command.
    """
    commands = []
    for info in storage.list(layout.control(sweep_id)):
        if info.key in obeyed:
            continue
        try:
            document = json.loads(storage.read(info.key))
            commands.append(Command(info.key, str(document["command"]), dict(document["arguments"])))
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"{storage.uri}/{info.key} is not a command of `agr`: {error}") from error
    return commands
