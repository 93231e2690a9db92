"""The cluster's token: Ray's own, found where Ray looks for it. Whoever has it may run anything on the nodes."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agr_core.errors import InputError

MODE = {"RAY_AUTH_MODE": "token"}
"""In the environment of everything that starts Ray or speaks to it."""


def speak_with_token() -> None:
    """Let Ray in this process use the token in all it says, whether it is imported already or not."""
    os.environ.update(MODE)
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it would say on standard error what we say in words
    from ray import _raylet

    raylet: Any = _raylet  # compiled, without types
    raylet.Config.initialize("")  # what it has read from the environment before is read again


@dataclass(frozen=True)
class Token:
    """Where the token lies; not the token."""

    where: str
    created: bool = False


def default_path() -> Path:
    """``RAY_AUTH_TOKEN_PATH``, or Ray's own file."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token").expanduser()


def find_token(*, create: bool = False) -> Token:
    """The token this process and Ray use; ``create``: made, readable by its owner only, where there is none.

    A file that others can read is closed to them: Ray itself leaves it open (mode 644).

    Raises:
        InputError: If there is none, or it is empty.
    """
    if os.environ.get("RAY_AUTH_TOKEN"):
        return Token("RAY_AUTH_TOKEN")
    path = default_path()
    if not path.exists():
        if not create:
            raise InputError(
                f"there is no cluster token: neither RAY_AUTH_TOKEN nor the file {path}. Copy it from the head, where "
                f"`agr cluster token` prints it: ssh HEAD agr cluster token > {path}"
            )
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600), encoding="utf-8") as file:
            file.write(secrets.token_hex(32))
        return Token(str(path), created=True)
    if path.stat().st_uid == os.geteuid() and path.stat().st_mode & 0o077:
        path.chmod(0o600)
    if not path.read_text(encoding="utf-8").strip():
        raise InputError(f"the cluster token in {path} is empty. Remove the file for a new one, or copy the head's.")
    return Token(str(path))


def reveal() -> str:
    """The token itself, for the person who asks.

    Raises:
        InputError: If there is none.
    """
    found = find_token()
    return (os.environ.get(found.where) or Path(found.where).read_text(encoding="utf-8")).strip()
