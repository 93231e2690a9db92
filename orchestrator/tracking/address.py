"""MLflow's address and the credentials in it, which are used and never shown."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

_PLACE = re.compile(r"(\[[^\]@]*\]|[^:/?#@\[]*)(:\d*)?([/?#].*)?", re.DOTALL)
"""Host, port and path without a login before them."""

_QUERY_SECRET = re.compile(r"([?&][^=&]*(?:pass|secret|token|key)[^=&]*=)([^&#]+)", re.IGNORECASE)
"""psycopg takes ``?password=...`` too."""


@dataclass(frozen=True)
class Address:
    """An address safe to show, its login, and its secret texts."""

    shown: str
    user: str | None
    password: str | None
    secrets: tuple[str, ...]

    def hide(self, text: str) -> str:
        """Remove the address's secrets from ``text``, whether escaped or not."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def read_address(uri: str) -> Address:
    """Parse ``uri``.

    A login may hold any character, escaped or not: SQLAlchemy takes ``/``, ``#`` and ``?`` in a password as they are,
    and ``urlsplit``, for which the host ends there, would expose it. Everything up to the last ``@`` is the login.
    """
    scheme, separator, rest = uri.partition("://")
    login = ""
    is_place = scheme.startswith("http") and _PLACE.fullmatch(rest) is not None
    if separator and not rest.startswith("/") and not is_place:
        login, _, rest = rest.rpartition("@")
    user, colon, password = login.partition(":")
    hidden = [password, *(match[2] for match in _QUERY_SECRET.finditer(rest))]
    return Address(
        shown=scheme + separator + _QUERY_SECRET.sub(r"\1***", rest),
        user=unquote(user) if login else None,
        password=unquote(password) if colon else None,
        secrets=tuple(dict.fromkeys(form for text in hidden if text for form in (text, unquote(text)))),
    )


def without_credentials(uri: str) -> str:
    """Return ``uri`` without ``user:password@`` and without secrets in its query; safe to print and to store."""
    return read_address(uri).shown


def database_uri(uri: str) -> str:
    """Return ``uri`` for SQLAlchemy 2.1, which reads ``postgresql://`` as psycopg 3, while we use psycopg 2."""
    return uri.replace("postgresql://", "postgresql+psycopg2://", 1)


def remove_misnamed(made: Path, meant: Path) -> None:
    """Remove the empty folder that MLflow creates beside a database's own: it uses the address's escapes as a name."""
    if made == meant:
        return
    with suppress(OSError):  # not empty from here on, or not there
        for folder in (made, *made.parents):
            folder.rmdir()
