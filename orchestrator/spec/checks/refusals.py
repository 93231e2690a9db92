"""Refuse secrets in a sweep file, and parts of the grammar that are not implemented."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.spec.source import DocPath, Source

_SECRET_KEY = re.compile(
    r"(^|_)(password|passwd|secret|token|credentials?|api_?key|access_?key(_id)?|private_?key)($|_)", re.IGNORECASE
)
_SECRET_VALUE = re.compile(
    r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"  # AWS access key IDs
    r"|://[^/\s:@]*:(?!\d+/)[^\s@]+@"  # user:password in a URL; what follows a port is a path
    r"|[?&](X-Amz-Signature|X-Amz-Security-Token|Signature|sig)="  # a signed URL, readable without a login
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\bgh[pousr]_[0-9A-Za-z]{30,}|\bgithub_pat_[0-9A-Za-z_]{30,}|\bhf_[0-9A-Za-z]{30,}"  # GitHub, Hugging Face
)

_UNBUILT_ROOT = {
    "constraints": "narrow the domains, or write the allowed combinations as branches",
}


def refuse_secrets(source: Source) -> None:
    """Note every key and value that looks like a credential; the value is shown nowhere."""
    for path, value in _entries(source.document, ()):
        key = "" if path[:-1] == ("variants",) else str(path[-1]).replace("-", "_")
        if _SECRET_KEY.search(key) or (isinstance(value, str) and _SECRET_VALUE.search(value)):
            source.add(
                path,
                "this looks like a secret, which would be stored with every trial; remove it from the sweep file and "
                "set it in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, ...) or the standard AWS files.",
            )
            source.settle(path[:-1] if isinstance(path[-1], int) else path)


def refuse_unbuilt(source: Source) -> None:
    """Note every part of the grammar that is not implemented, and suppress further problems there."""
    document: Mapping[str, Any] = source.document
    _refuse_keys(document, (), _UNBUILT_ROOT, source)


def _refuse_keys(mapping: Any, path: DocPath, unbuilt: Mapping[str, str], source: Source) -> None:
    if isinstance(mapping, dict):
        for key in mapping:
            if key in unbuilt:
                _refuse(source, (*path, key), f"`{key}`", unbuilt[key])


def _refuse(source: Source, path: DocPath, what: str, way_out: str) -> None:
    source.add(path, f"{what} is not implemented; instead, {way_out}.", key=True)
    source.settle(path)


def _entries(value: Any, path: DocPath) -> Iterator[tuple[DocPath, Any]]:
    """Yield every entry of every mapping and list, with its path."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key), item
        yield from _entries(item, (*path, key))
