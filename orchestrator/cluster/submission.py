"""Submissions: a sweep that a laptop stores for the driver on a cluster's head.

A submission is the complete document of the sweep: the file with what it extends, the profile and ``--set``. It goes
through the storage, which both must reach anyway, not through Ray, whose job metadata and runtime environments every
node stores and logs. It has no credentials: the driver uses those of its head.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from agr_core.config.data import SYNTHETIC
from agr_core.errors import InputError
from orchestrator.errors import DamagedError
from orchestrator.spec.load import Sweep, sweep_from_document
from orchestrator.storage import is_remote, layout
from orchestrator.storage.base import Storage
from orchestrator.storage.documents import read_object

_NO_FILES = ("none", "timm", "init")


def leave_submission(storage: Storage, sweep_id: str, sweep: Sweep) -> None:
    """Store the sweep for the driver of ``sweep_id``.

    Raises:
        InputError: If it needs files of this machine, or the storage is one.
    """
    if not is_remote(storage.uri):
        raise InputError(
            f"the storage is {storage.uri}, a folder of this machine; the cluster needs one that every node reaches. "
            "Set AGR_STORAGE or --storage to s3://bucket/prefix, as the head has it."
        )
    local = sorted(set(local_files(sweep.document)))
    if local:
        raise InputError(
            f"the cluster has no files of this machine, and the sweep names {', '.join(local)}. Upload the data once: "
            "`agr data pack FOLDER -o s3://bucket/prefix`, and name that address; likewise for weights and split files."
        )
    leave_submission_here(storage, sweep_id, sweep)


def leave_submission_here(storage: Storage, sweep_id: str, sweep: Sweep) -> None:
    """Store the sweep for a driver of this machine, which has its files."""
    document = {"document": sweep.document, "profile": sweep.profile}
    storage.create(layout.submission(sweep_id), json.dumps(document).encode("utf-8"))


def take_submission(storage: Storage, sweep_id: str) -> Sweep:
    """Return the submitted sweep.

    Raises:
        NotFoundError: If there is none of that ID.
        DamagedError: If it is not a document of `agr submit`.
        SpecError: If this version does not read it.
    """
    try:
        left = read_object(storage, layout.submission(sweep_id))
        document, profile = left["document"], left["profile"]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{storage.uri}/{layout.submission(sweep_id)} is not a submission: {error}") from error
    return replace(sweep_from_document(document), profile=profile)


def local_files(document: Mapping[str, Any]) -> Iterator[str]:
    """Return the local paths in a sweep's document, wherever they stand: data, split files, weights."""
    for keys, text in _leaves(document, ()):
        field = keys[-1]
        in_data = "source" in (field, *keys[-2:-1]) or (len(keys) > 1 and "sources" in keys[:-1])
        is_path = (
            (in_data and text != SYNTHETIC and not text.startswith(f"{SYNTHETIC}:"))
            or (field == "path" and "split" in keys)
            or (field == "weights" and text not in _NO_FILES and not text.startswith("trial:"))
        )
        if is_path and not is_remote(text):
            yield f"{'.'.join(keys)}={text}"


def _leaves(value: Any, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield every string with the mapping keys that lead to it, including each choice of a domain."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(part, keys if key == "choice" else (*keys, str(key)))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _leaves(part, keys)
    elif isinstance(value, str) and keys:
        yield keys, value
