"""Pictures: real PNG files whose cells hold what the table says; how they look was judged by eye."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from agr_core.evaluation.plots import confusion_png, curves_png
from agr_core.objective import Objective
from agr_core.reporting import EpochReport

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


def share_of_dark_blue(png: bytes) -> float:
    """Share of pixels in the colour of a cell that holds (nearly) all of its class."""
    red, _, blue = np.moveaxis(pixels(png), 2, 0)
    return float(((red < 30) & (blue > 90)).mean())


@pytest.mark.parametrize("classes", range(2, 10))
def test_a_confusion_matrix_is_drawn_for_two_to_nine_classes(classes: int) -> None:
    labels = [f"class number {k}" for k in range(classes)]
    counts = (np.eye(classes, dtype=int) * 20_000).tolist()
    height, width, _ = pixels(confusion_png({"labels": labels, "counts": counts}, "race")).shape
    assert min(height, width) >= 60 * classes  # room for a percentage and a count in each cell
    assert max(height, width) < 1500


def test_colours_are_shares_of_the_true_class_and_not_counts() -> None:
    def draw(counts: list[list[int]]) -> bytes:
        return confusion_png({"labels": ["male", "female"], "counts": counts}, "gender")

    perfect, unbalanced = draw([[500, 0], [0, 500]]), draw([[9000, 0], [0, 3]])
    assert share_of_dark_blue(unbalanced) == pytest.approx(share_of_dark_blue(perfect), rel=0.05)
    assert share_of_dark_blue(draw([[250, 250], [250, 250]])) < 0.2 * share_of_dark_blue(perfect)


def test_a_class_without_images_has_an_empty_row() -> None:
    table = {"labels": ["0-2", "3+"], "counts": [[0, 0], [1, 2]]}
    assert pixels(confusion_png(table, "age")).std() > 0


@pytest.mark.parametrize("epochs", [0, 1, 30])
def test_curves_are_drawn_for_any_number_of_epochs(epochs: int) -> None:
    assert pixels(curves_png(reports_of(epochs), [MAE], "trial a1b2c3d4")).std() > 0


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
