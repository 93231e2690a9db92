"""Adience's five folds: trained, read, pooled, and compared with scikit-learn on the stored predictions."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score

from agr_core.evaluation.predictions import Predictions
from orchestrator.storage import layout
from tests.parts.real_data import real_data

pytestmark = pytest.mark.slow

FOLDS, ROWS = 5, 80


@pytest.fixture
def drawn(agr: Any, tmp_path: Path) -> Path:
    """Drawn faces in Adience's layout."""
    agr.run(
        "data", "synth", "--layout", "adience", "--images", str(FOLDS * ROWS), "--size", "32", "-o", str(tmp_path / "a")
    )
    return tmp_path / "a"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The first rows of the published fold files, each with an image of noise."""
    random = np.random.default_rng(7)
    target = tmp_path / "adience"
    for fold in range(FOLDS):
        file = real_data(f"adience/fold_{fold}_data.txt")
        target.mkdir(exist_ok=True)
        table = pd.read_csv(file, sep="\t").head(ROWS).assign(age="None")  # so few rows lack ages in some folds
        table.to_csv(target / file.name, sep="\t", index=False)
        for row in table.itertuples():
            folder = target / "faces" / row.user_id
            folder.mkdir(parents=True, exist_ok=True)
            image = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / f"coarse_tilt_aligned_face.{row.face_id}.{row.original_image}"), image)
    return target


@pytest.mark.parametrize("source", ["drawn", "published"])
def test_pooled_figures_equal_scikit_learns_of_the_stored_predictions(
    source: str, request: pytest.FixtureRequest, agr: Any, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(source)
    agr.run("data", "pack", str(folder), "--require", "gender", "-o", str(tmp_path / "packed"))
    file = agr.sweep_file(
        name=f"folds-{source}",
        trial={
            "data": {"source": str(tmp_path / "packed"), "split": {"strategy": "kfold"}},
            "tasks": ["gender"],
            "image": {"size": 32},
            "batch_size": 40,
            "schedule": {"name": "constant", "epochs": 2},
            "model": {"name": "basic_cnn", "conv_layers": 2, "base_features": 4, "hidden": 8},
        },
        space=None,
        variants={"plain": {}},
        search=None,
        scheduler="none",
        objective={"metric": "val/gender_acc", "direction": "maximize"},
        folds=FOLDS,
    )
    result = agr.json("submit", file)
    assert result["trials"]["completed"] == FOLDS

    storage = agr.home / "storage"
    parts = []
    for trial in (event for event in agr.events(result["sweep_id"]) if event["kind"] == "trial_created"):
        attempt = storage / layout.attempt(result["sweep_id"], trial["trial_id"], 0)
        (predictions,) = (attempt / "predictions").glob("test-*.parquet")
        parts.append(Predictions.from_parquet(predictions.read_bytes(), source=predictions.name))
    ids = [sample for part in parts for sample in part.sample_ids]
    assert len(set(ids)) == len(ids), "each image is in one test part"
    true, predicted = (
        np.concatenate([getattr(part.classes["gender"], name) for part in parts]) for name in ("true", "predicted")
    )
    (row, *_) = agr.json("leaderboard", result["sweep_id"])
    assert row["folds"] == FOLDS
    assert row["means"]["test/gender_acc"]["mean"] == pytest.approx(accuracy_score(true, predicted), abs=1e-12)
    assert row["means"]["test/gender_f1"]["mean"] == pytest.approx(
        f1_score(true, predicted, average="macro"), abs=1e-12
    )
    shutil.rmtree(tmp_path / "packed")
