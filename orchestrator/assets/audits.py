"""Audits of data sets, cached by digest, so that a sweep on known data does not wait for one.

Duplicates are searched once per data set, whatever its splits; groups in several parts once per split.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

import agr_core
from agr_core.code_digest import code_digest
from agr_core.data.audit.examine import Examined, NearPair, examine
from agr_core.data.audit.images import PackedImages
from agr_core.data.audit.report import Audit
from agr_core.data.packed.joined import Joined, open_data
from agr_core.data.packed.pack import Packed
from agr_core.data.splits.splits import read_split
from agr_core.errors import DataError
from agr_core.identity import canonical_json, digest
from orchestrator.assets.datasets import stage
from orchestrator.journal.events import DataRef
from orchestrator.storage.base import Storage
from orchestrator.storage.local import LocalStorage

_log = logging.getLogger(__name__)


def audit_packed(data: Packed | Joined, *, cache: Path) -> Audit:
    """Return the audit of a packed data set without a split; its duplicates are cached in ``cache``."""
    return Audit(_examined(data, cache))


def audit_split(ref: DataRef, *, storage: Storage, cache: Path, strict: bool) -> tuple[int, int]:
    """Return the numbers of groups in several parts of a split and of groups with contradicting labels; log both.

    Args:
        ref: Data set and split, prepared.
        storage: Storage of the sweep.
        cache: Cache of this node; the data set is fetched into it unless its audit is cached.
        strict: Refuse a split that leaks.

    Raises:
        DataError: If it leaks and ``strict`` is set.
    """
    what = {"data_digest": ref.data_digest, "split_digest": ref.split_digest}

    def count() -> dict[str, Any]:
        staged = stage(ref, storage=storage, cache=cache)
        examined = _examined(open_data(staged.packed), cache)
        audit = Audit(examined, read_split(staged.split).parts[examined.rows])
        return {"leaks": audit.leaks, "conflicts": audit.conflicts}

    counts = _remembered(what, count, cache)
    leaks, conflicts = int(counts["leaks"]), int(counts["conflicts"])
    data_and_split = f"data {ref.data_digest[:12]}, split {ref.split_digest[:12]}"
    way_out = "`agr data audit SOURCE --split FILE` shows them, and --fix writes a split without them"
    if leaks and strict:
        raise DataError(
            f"{data_and_split}: {leaks:,} groups of one picture or one subject are in several parts of the split, and "
            f"the sweep is strict. {way_out}; or leave `strict` out."
        )
    if leaks:
        _log.warning(
            "%s: %s groups of one picture or one subject are in several parts of the split, so val and test figures "
            "are optimistic. %s.",
            data_and_split,
            f"{leaks:,}",
            way_out,
        )
    if conflicts:
        _log.warning("%s: %s groups have contradicting labels. %s.", data_and_split, f"{conflicts:,}", way_out)
    return leaks, conflicts


def _examined(data: Packed | Joined, cache: Path) -> Examined:
    """Examine the images of a packed data set; their sizes are not cached."""

    def look() -> dict[str, Any]:
        examined = examine(PackedImages(data))
        dropped = np.setdiff1d(np.arange(len(data)), examined.rows).tolist()
        return {"dropped": dropped, "near": [[p.first, p.second, p.mirrored, p.difference] for p in examined.near]}

    cached = _remembered({"data_digest": data.digest}, look, cache)
    rows = np.setdiff1d(np.arange(len(data), dtype=np.int64), np.array(cached["dropped"], dtype=np.int64))
    return Examined(
        table=data.table.iloc[rows].reset_index(drop=True),
        rows=rows,
        unreadable=(),
        bad_names=(),
        sizes=np.empty((0, 2), dtype=np.int64),
        near=tuple(NearPair(first, second, mirrored, by) for first, second, mirrored, by in cached["near"]),
    )


def _remembered(what: dict[str, Any], make: Callable[[], dict[str, Any]], cache: Path) -> dict[str, Any]:
    """Return the cached result of ``make`` for ``what`` by the same code; else call it."""
    notes = LocalStorage(cache)
    code = code_digest(Path(agr_core.__file__).parent, part="data", cache=cache)
    name = digest({"audit": what, "code": code})
    key = f"prepared/{name}.json"
    (cache / "prepared").mkdir(parents=True, exist_ok=True)
    with FileLock(cache / "prepared" / f".{name}.lock"):
        if notes.exists(key):
            return dict(json.loads(notes.read(key)))
        made = make()
        notes.write(key, canonical_json(made).encode("utf-8"))
        return made
