"""The cluster's token, which is Ray's own. It permits running any code on the nodes."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from agr_core.errors import InputError

MODE = {"RAY_AUTH_MODE": "token"}
"""Environment variables of every process that starts Ray or connects to it."""


def speak_with_token() -> None:
    """Make Ray in this process use the token for all requests, whether it is imported already or not."""
    os.environ.update(MODE)
    os.environ.setdefault(
        "RAY_BACKEND_LOG_LEVEL", "fatal"
    )  # otherwise it prints on standard error what our errors state
    from orchestrator.ray_tune.internals.core import read_environment_again

    read_environment_again()


@dataclass(frozen=True)
class Token:
    """Location of the token, without the token."""

    where: str
    created: bool = False


def default_path() -> Path:
    """Return ``RAY_AUTH_TOKEN_PATH``, or Ray's own file."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token").expanduser()


def find_token(*, create: bool = False) -> Token:
    """Find the token that this process and Ray use; ``create``: create a missing one, readable by its owner only.

    Other users' access to an existing file is removed: Ray itself leaves it readable (mode 644).

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
    """Return the token itself, for display to the user.

    Raises:
        InputError: If there is none.
    """
    token = find_token()
    return (os.environ.get(token.where) or Path(token.where).read_text(encoding="utf-8")).strip()
