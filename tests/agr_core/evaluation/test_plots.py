"""Pictures: real PNG files; how they look was judged by eye."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from agr_core.evaluation.plots import curves_png
from agr_core.objective import Objective
from agr_core.reporting import EpochReport

EDGE = 12  # pixels of white around a picture
MAE = Objective(metric="val/age_mae", direction="minimize")


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def reports_of(epochs: int) -> list[EpochReport]:
    names = ("train/loss", "val/loss", "train/age_mae", "val/age_mae")
    return [
        EpochReport(epoch=epoch, metrics={name: 10.0 / epoch + k for k, name in enumerate(names)})
        for epoch in range(1, epochs + 1)
    ]


def test_there_is_white_on_all_sides() -> None:
    picture = pixels(curves_png(reports_of(5), [MAE], "trial"))
    inked = (picture < 255).any(axis=2)
    for side in (inked, inked[::-1], inked.T, inked.T[::-1]):
        assert int(side.any(axis=1).argmax()) == EDGE


@pytest.mark.parametrize("epochs", [0, 1, 30])
def test_curves_are_drawn_for_any_number_of_epochs(epochs: int) -> None:
    assert pixels(curves_png(reports_of(epochs), [MAE], "trial a1b2c3d4")).std() > 0


def test_a_title_wider_than_the_curves_is_not_cut() -> None:
    loss = Objective(metric="val/loss", direction="minimize")
    long, longest = (pixels(curves_png(reports_of(5), [loss], "n" * letters)).shape[1] for letters in (60, 90))
    assert longest - 2 * EDGE == pytest.approx(1.5 * (long - 2 * EDGE), rel=0.02)


def test_the_objective_has_its_own_panel_unless_it_is_the_loss() -> None:
    loss = Objective(metric="val/loss", direction="minimize")
    two, one = (pixels(curves_png(reports_of(5), [objective], "trial")).shape[1] for objective in (MAE, loss))
    assert two == pytest.approx(2 * one, rel=0.1)


def test_a_metric_that_some_epochs_lack_is_drawn_where_it_is() -> None:
    reports = [*reports_of(2), EpochReport(epoch=3, metrics={"val/loss": 1.0, "val/age_mae": 2.0})]
    assert pixels(curves_png(reports, [MAE], "trial")).std() > 0


def test_matplotlib_is_imported_only_when_something_is_drawn() -> None:
    code = "import sys, agr_core.evaluation.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
