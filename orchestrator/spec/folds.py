"""``folds``: cross-validation, with one training of a configuration per held-out fold."""

from __future__ import annotations

from typing import Any

from agr_core.config import TrialConfig
from orchestrator.spec.model import SweepSpec
from orchestrator.spec.source import Source
from orchestrator.spec.space import Proposal, Space

_CUT = ("stratified", "kfold")
_SPLIT = ("data", "split")


def at_fold(config: TrialConfig, fold: int, *, folds: int) -> TrialConfig:
    """Return a configuration that tests fold ``fold``, validates on the one before it and trains on all others.

    With ``data.split.strategy: official`` the folds are the partitions 0, 1, ... of the data set; otherwise it is cut
    into folds, each subject and each image in one. Stages on the same data hold out the same images.

    Args:
        config: The configuration, at any fold or at none.
        fold: The fold, from 0.
        folds: Number of folds.
    """
    return TrialConfig.from_document(_at_fold(config.to_document(), fold, folds))


def _at_fold(document: dict[str, Any], fold: int, folds: int) -> dict[str, Any]:
    data = document["data"]
    changed = {**document, "data": {**data, "split": _split(data["split"], fold, folds)}}
    stage = document.get("init")
    if stage is not None and _same_images(stage["config"]["data"], data):
        changed["init"] = {**stage, "config": _at_fold(stage["config"], fold, folds)}
    return changed


def _same_images(data: dict[str, Any], other_data: dict[str, Any]) -> bool:
    return all(data[name] == other_data[name] for name in ("source", "sources", "synthetic"))


def _split(split: dict[str, Any], fold: int, folds: int) -> dict[str, Any]:
    if split["strategy"] == "official":
        before = (fold - 1) % folds
        others = [str(partition) for partition in range(folds) if partition not in (fold, before)]
        return {**split, "partitions": {"train": others, "val": [str(before)], "test": [str(fold)]}}
    return {**split, "strategy": "kfold", "folds": folds, "fold": fold}


def refuse_unfit_folds(spec: SweepSpec, space: Space, proposals: list[Proposal], source: Source) -> None:
    """Note settings in ``source`` that prevent training fold by fold."""
    if spec.folds is None:
        return
    if any(path[:2] == _SPLIT for path in space.varied_paths()):
        source.add(("space", "data", "split"), "the split may not vary in `space` under `folds`, which cuts it.")
    for proposal in proposals:
        split = proposal.config.data.split
        if split.strategy not in (*_CUT, "official"):
            source.add(
                ("folds",),
                f"folds with data.split.strategy={split.strategy}: stratified cuts the images into folds, and official "
                "takes those of the data set; leave the strategy out, or `folds`.",
            )
            return
        if split.partitions is not None:
            source.add(
                ("folds",),
                "folds with data.split.partitions: each fold is a partition, which tests once; leave partitions out.",
            )
            return
