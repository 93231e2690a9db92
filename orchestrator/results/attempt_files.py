"""Read and validate the documents that an attempt stores beside its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agr_core.labels.attributes import Vocabulary
from orchestrator.assets.recorded import read_recorded
from orchestrator.errors import DamagedError
from orchestrator.journal.sweep_state import TrialState
from orchestrator.storage import layout
from orchestrator.storage.base import Storage
from orchestrator.storage.documents import parse_object


def recorded_provenance(storage: Storage, folder: str, trial: TrialState) -> dict[str, Any]:
    """Return the provenance of an attempt (versions, hardware, git commit) from its ``trial.json``.

    Raises:
        NotFoundError: If it wrote none.
        DamagedError: If it is not what an attempt writes, or not what the journal lists.
    """
    key = f"{folder}/trial.json"
    provenance = parse_object(read_recorded(storage, key, trial), f"{storage.uri}/{key}").get("provenance")
    if not isinstance(provenance, dict):
        raise DamagedError(f"{storage.uri}/{key} is damaged: provenance is not an object.")
    return provenance


def vocabulary_in(document: Mapping[str, Any], name: str) -> Vocabulary:
    """Return the classes that ``labels.json``, or the manifest of a data set, names; ``name`` is its address.

    Raises:
        DamagedError: If they are not lists of names.
    """
    classes: dict[str, tuple[str, ...]] = {}
    for task in ("genders", "races", "attributes"):
        names = document.get(task) or ()
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise DamagedError(f"{name} is damaged: {task} is not a list of names.")
        classes[task] = tuple(names)
    return Vocabulary(**classes)


@dataclass(frozen=True)
class RecordedLabels:
    """What a model's outputs mean, and on what faces it was trained.

    ``crop`` is their face crop, None if not recorded. ``drawn`` is whether all of them are drawn; None if not
    recorded, as by earlier versions.
    """

    vocabulary: Vocabulary
    crop: Mapping[str, Any] | None
    drawn: bool | None = None


def recorded_labels(storage: Storage, folder: str, trial: TrialState) -> RecordedLabels:
    """Return what an attempt recorded in its ``labels.json``.

    Raises:
        NotFoundError: If it wrote none.
        DamagedError: If it is not what an attempt writes, or not what the journal lists.
    """
    key = f"{folder}/{layout.LABELS}"
    document = parse_object(read_recorded(storage, key, trial), f"{storage.uri}/{key}")
    crop = document.get("crop")
    if crop is not None and not isinstance(crop, dict):
        raise DamagedError(f"{storage.uri}/{key} is damaged: crop is not an object.")
    drawn = document.get("drawn")
    if not isinstance(drawn, bool | None):
        raise DamagedError(f"{storage.uri}/{key} is damaged: drawn is neither true nor false.")
    return RecordedLabels(vocabulary_in(document, f"{storage.uri}/{key}"), crop, drawn)
