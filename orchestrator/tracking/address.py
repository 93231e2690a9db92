"""MLflow's address, and the credentials in it, which are used and never shown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

_PLACE = re.compile(r"(\[[^\]@]*\]|[^:/?#@\[]*)(:\d*)?([/?#].*)?", re.DOTALL)
"""Host, port and path, before which no login stands."""

_QUERY_SECRET = re.compile(r"([?&][^=&]*(?:pass|secret|token|key)[^=&]*=)([^&#]+)", re.IGNORECASE)
"""psycopg takes ``?password=...`` too."""


@dataclass(frozen=True)
class Address:
    """An address as it may be shown, the login in it, and the texts that give something away."""

    shown: str
    user: str | None
    password: str | None
    secrets: tuple[str, ...]

    def hide(self, text: str) -> str:
        """``text`` without anything secret of the address, as it stands there or with its escapes undone."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def read_address(uri: str) -> Address:
    """What is in ``uri``.

    A login may hold any character, escaped or not: SQLAlchemy takes ``/``, ``#`` and ``?`` in a password as they are,
    and ``urlsplit``, for which the host ends there, would show it. All up to the last ``@`` is taken for the login.
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
    """``uri`` with ``user:password@`` taken out, and what is secret in its query; safe to print and to store."""
    return read_address(uri).shown


def database_uri(uri: str) -> str:
    """``uri`` for SQLAlchemy 2.1, which reads ``postgresql://`` as psycopg 3, and we have psycopg 2."""
    return uri.replace("postgresql://", "postgresql+psycopg2://", 1)
