"""Figures compare where they are of the same images, whatever was trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agr_core.config import SplitConfig
from agr_core.data.splits.split_file import SameSide, Split, write_split
from agr_core.errors import InputError
from orchestrator.journal.segments import read_state
from orchestrator.results.ablation_table import make_table
from orchestrator.results.evaluated_on import same_images
from orchestrator.storage import layout
from orchestrator.storage.base import Storage

Recorder = Callable[..., Any]


def _stored(storage: Storage, folder: Path, parts: dict[str, str]) -> str:
    """The digest of a stored split that puts each image where ``parts`` says."""
    split = Split(
        np.array(list(parts), dtype=object),
        np.array(list(parts.values()), dtype=object),
        SplitConfig(),
        SameSide(0, 0, 0, 0),
    )
    path = folder / "split.parquet"
    write_split(split, path)
    storage.upload(path, layout.split(split.digest))
    return split.digest


def _two(record_sweep: Recorder, folder: Path, one: dict[str, str], other: dict[str, str]) -> Any:
    sweep = record_sweep(document={"variants": {"base": {}, "more": {"data": {"fraction": 0.5}}}})
    for number, (variant, parts) in enumerate((("base", one), ("more", other))):
        digest = _stored(sweep.storage, folder, parts)
        sweep.trial(number, [5.0 - number], variant=variant, split_digest=digest)
    return sweep


SMALL = {"a": "train", "b": "val", "c": "test", "d": "left_out"}


def test_rows_trained_on_other_images_and_evaluated_on_the_same_are_compared(
    record_sweep: Recorder, tmp_path: Path
) -> None:
    sweep = _two(record_sweep, tmp_path, SMALL, {**SMALL, "d": "train"})
    state = read_state(sweep.storage, sweep.sweep_id)
    assert same_images(state.trials.values(), sweep.storage) == ("val", "test")
    table = make_table(state, storage=sweep.storage)
    assert (table.split_digest, table.shared_parts) == (None, ("val", "test"))
    difference = next(row for row in table.rows if row.base).cells["best/age_mae"].difference
    assert difference is not None
    assert difference.mean == -1.0


def test_images_are_identified_by_their_bytes_across_data_sets(record_sweep: Recorder, tmp_path: Path) -> None:
    joined = {f"faces/{name}": part for name, part in SMALL.items()} | {"others/e": "train"}
    sweep = _two(record_sweep, tmp_path, SMALL, joined)
    state = read_state(sweep.storage, sweep.sweep_id)
    assert same_images(state.trials.values(), sweep.storage) == ("val", "test")


def test_rows_evaluated_on_other_images_are_refused(record_sweep: Recorder, tmp_path: Path) -> None:
    sweep = _two(record_sweep, tmp_path, SMALL, {**SMALL, "b": "train", "d": "val"})
    state = read_state(sweep.storage, sweep.sweep_id)
    assert same_images(state.trials.values(), sweep.storage) == ("test",)
    with pytest.raises(InputError, match="the shared data, test, with --cols"):
        make_table(state, storage=sweep.storage)
    assert same_images(state.trials.values(), None) == ()
