"""Learning curves: pictures with what was asked for; how they look was judged by eye."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from agr_core.errors import InputError
from agr_core.evaluation.curves import MOST_TRIALS, mean_change, overlay_png, task_curves_png
from agr_core.reporting import EpochReport


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def reports_of(*figures: str, epochs: int = 5, scale: float = 1.0) -> list[EpochReport]:
    return [
        EpochReport(epoch=epoch, metrics={name: scale * (k + 1) / epoch for k, name in enumerate(figures)})
        for epoch in range(1, epochs + 1)
    ]


def test_each_task_has_its_panels() -> None:
    gender = ["train/loss", "val/loss", "train/gender_loss", "val/gender_loss", "val/gender_acc", "train/gender_acc"]
    age = ["train/age_loss", "val/age_loss", "val/age_mae", "train/age_mae"]
    few, more = (pixels(task_curves_png(reports_of(*names), "a trial")) for names in (gender, gender + age))
    assert more.shape[1] == pytest.approx(3 / 2 * few.shape[1], rel=0.05)
    assert more.shape[0] == few.shape[0]


def test_curves_of_no_epoch_and_of_one_are_drawn() -> None:
    for epochs in (0, 1):
        assert pixels(task_curves_png(reports_of("val/loss", epochs=epochs), "a trial")).std() > 0


def colors(png: bytes) -> set[tuple[int, ...]]:
    found, counts = np.unique(pixels(png).reshape(-1, 3), axis=0, return_counts=True)
    return {tuple(color) for color in found[counts > 30] if np.ptp(color) > 60}  # no black, white or grey


def test_an_overlay_has_a_curve_of_its_own_colour_for_each_trial() -> None:
    trials = {f"trial {k}": reports_of("val/loss", scale=k) for k in range(1, 4)}
    assert len(colors(overlay_png(trials, "val/loss", "three"))) >= 3
    assert len(colors(overlay_png({"one": trials["trial 1"]}, "val/loss", "one"))) < 3


def test_an_overlay_of_nothing_or_too_much_is_refused() -> None:
    with pytest.raises(InputError, match="none of the 1 trials reported 'val/lss'"):
        overlay_png({"a": reports_of("val/loss")}, "val/lss", "")
    many = {str(k): reports_of("val/loss") for k in range(MOST_TRIALS + 1)}
    with pytest.raises(InputError, match="at most 20"):
        overlay_png(many, "val/loss", "")
    assert pixels(overlay_png(dict(list(many.items())[:-1]), "val/loss", "")).std() > 0


def test_restlessness_is_the_mean_step_between_epochs() -> None:
    values = [5.0, 3.0, 4.0, 4.0]
    reports = [EpochReport(epoch=n, metrics={"val/loss": value}) for n, value in enumerate(values, start=1)]
    assert mean_change(reports, "val/loss") == 1.0
    assert mean_change(reports[:1], "val/loss") is None
