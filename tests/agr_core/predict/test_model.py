"""Prediction: the numbers of the evaluation for the same images, and entries instead of crashes for bad files."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from agr_core.bins import Bins
from agr_core.config import SplitConfig, SyntheticConfig, TrialConfig
from agr_core.data.face_crop import FaceBox
from agr_core.data.loading.trial_data import TrialData
from agr_core.data.packed.pack import Packed, pack
from agr_core.data.readers import Skipped
from agr_core.data.splits.splits import make_split, read_split, write_split
from agr_core.errors import CheckpointError, ConfigError, DataError
from agr_core.objective import Objective
from agr_core.predict import model as predict_module
from agr_core.predict.files import image_files
from agr_core.predict.grid import grid_png
from agr_core.predict.model import (
    Face,
    FileFaces,
    ModelsTogether,
    TrainedLabels,
    TrainedModel,
    predict_bytes,
    predict_files,
)
from agr_core.trainer.loop import Training, evaluate_part

AGE_ALONE = {"image": {"size": 24}, "tasks": ["age"]}
CONFIGS: dict[str, dict[str, Any]] = {
    "colour": {"image": {"size": 24}},
    "grey, cut from a larger one": {
        "image": {"size": 24, "crop_from": 32, "color": "grey", "normalize": "minus_one_one"},
        "age": {"encoding": "regression"},
    },
    "age and gender in one softmax": {
        "image": {"size": 24, "normalize": "zero_one"},
        "age": {"encoding": "joint_gender", "bins": "adience8"},
    },
    "one task": {"image": {"size": 24, "normalize": "none"}, "tasks": ["gender"]},
}


def config_of(name: str) -> TrialConfig:
    document = {
        "model": {"name": "basic_cnn", "conv_layers": 2, "base_features": 4, "hidden": 16},
        "optimizer": {"name": "adam", "lr": 0.01},
        "schedule": {"name": "constant", "epochs": 1},
        "age": {"encoding": "onehot", "bins": "every2"},
        "batch_size": 16,
        "compute": {"threads": 1},
    }
    return TrialConfig.from_document({**document, **CONFIGS.get(name, AGE_ALONE)})


class Study:
    """A model trained for an epoch on drawn faces, and the files of its val part."""

    def __init__(self, name: str, folder: Path) -> None:
        self.config = config_of(name)
        pack("synthetic", folder / "packed", synthetic=SyntheticConfig(images=150, size=40, seed=3))
        packed = Packed.open(folder / "packed")
        write_split(make_split(packed.table, SplitConfig(fractions=(0.6, 0.3, 0.1))), folder / "split.parquet")
        self.data = TrialData.open(
            self.config, packed=folder / "packed", split=folder / "split.parquet", cache=folder / "cache"
        )
        training = Training(self.config, self.data, Objective(metric="val/loss", direction="minimize"))
        training.run_epoch()
        training.save(folder / "checkpoint")
        self.weights = folder / "checkpoint" / "best.safetensors"
        rows = read_split(folder / "split.parquet").rows("val")
        self.files = []
        for row, content in zip(rows, packed.image_bytes(rows), strict=True):
            self.files.append(folder / f"{row}.png")
            self.files[-1].write_bytes(content)
        self.table = packed.table.iloc[rows]
        self.vocabulary = packed.vocabulary

    def model(self) -> TrainedModel:
        return TrainedModel(self.config, self.weights, TrainedLabels(self.vocabulary))


@pytest.fixture(scope="module", params=CONFIGS)
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Study(request.param, tmp_path_factory.mktemp("study"))


def test_files_are_predicted_with_the_numbers_of_the_evaluation(study: Study) -> None:
    expected = evaluate_part(study.config, study.data, study.weights, "val").metrics

    found = [faces for one in predict_files(study.model(), study.files, None) for faces in one.faces]

    assert len(found) == len(study.table) > 40
    if "age" in study.config.tasks:
        errors = np.abs(np.array([face.age for face in found]) - study.table["age"].to_numpy())
        assert errors.mean() == pytest.approx(expected["val/age_mae"], rel=1e-5)
        if expected.get("val/age_acc") is not None:  # in the trial's own bins, from its outputs
            bins = Bins.from_spec(study.config.age.bins)  # type: ignore[union-attr]
            shares = [face.probabilities["age"] for face in found]
            assert [sum(share.values()) for share in shares] == pytest.approx([1.0] * len(found), abs=1e-5)
            likeliest = [bins.labels.index(max(share, key=share.get)) for share in shares]  # type: ignore[arg-type]
            assert np.mean(likeliest == bins.index(study.table["age"])) == expected["val/age_acc"]
    for task in ("gender", "race"):
        answers = [getattr(face, task) for face in found]
        if task in study.config.tasks:
            assert np.mean(np.array(answers) == study.table[task]) == expected[f"val/{task}_acc"]
            shares = [face.probabilities[task] for face in found]
            assert [max(share, key=share.get) for share in shares] == answers  # type: ignore[arg-type]
            assert [sum(share.values()) for share in shares] == pytest.approx([1.0] * len(found), abs=1e-5)
            true = [share[name] for share, name in zip(shares, study.table[task], strict=True)]
            assert -np.log(true).mean() == pytest.approx(expected[f"val/{task}_loss"], rel=1e-4)
        else:
            assert set(answers) == {None}


def test_the_json_has_the_documented_keys(study: Study) -> None:
    (one,) = predict_files(study.model(), study.files[:1], None)
    document = json.loads(json.dumps(one.to_json()))
    assert document.keys() == {"file", "faces"}
    (face,) = document["faces"]
    assert face.keys() == {"box", "age", "gender", "race", "probabilities"}
    assert face["box"] == [0, 0, 40, 40]
    without = {"age"} if study.config.age.encoding == "regression" else set()
    assert face["probabilities"].keys() == set(study.config.tasks) - without


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return Study("colour", tmp_path_factory.mktemp("model")).model()


def picture(seed: int, size: int = 60) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_files_that_are_no_images_are_entries_with_the_reason(model: TrainedModel, tmp_path: Path) -> None:
    contents = {"a.png": picture(1), "b.jpg": b"no image", "c.png": picture(2)[:400], "d.png": b"", "e.png": picture(3)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    files = [tmp_path / name for name in contents] + [tmp_path / "gone.png"]

    found = list(predict_files(model, files, None))

    assert [len(one.faces) for one in found] == [1, 0, 0, 0, 1, 0]
    reasons = ["not an image", "damaged image", "empty", "cannot be read"]
    assert all(words in str(one.error) for words, one in zip(reasons, [*found[1:4], found[5]], strict=True))
    assert found[1].to_json() == {"file": str(files[1]), "faces": [], "error": found[1].error}
    # The bad files changed nothing for the good ones.
    alone = next(predict_files(model, [files[4]], None)).faces[0]
    assert found[4].faces[0].age == pytest.approx(alone.age, rel=1e-5)


def test_a_file_in_memory_is_predicted_like_one_on_disk(model: TrainedModel, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture(1))
    (on_disk,) = predict_files(model, [tmp_path / "a.png"], None)
    assert predict_bytes(model, "a.png", picture(1), None).faces == on_disk.faces
    assert predict_bytes(model, "x", b"no image", None).error == "not an image of a known format"


def test_only_so_many_faces_keep_a_thumbnail(model: TrainedModel, tmp_path: Path) -> None:
    files = [tmp_path / f"{number:02d}.png" for number in range(20)]
    for number, file in enumerate(files):
        file.write_bytes(picture(number))
    for thumbnails, kept in ((0, 0), (5, 5), (18, 18), (99, 20)):
        found = predict_files(model, files, None, thumbnails=thumbnails)
        shapes = [None if face.thumbnail is None else face.thumbnail.shape for one in found for face in one.faces]
        assert shapes == [(160, 160, 3)] * kept + [None] * (20 - kept)


class TwoHalves:
    """Finds a face in each half of an image, and none in small ones."""

    def detect(self, image: np.ndarray) -> list[FaceBox]:
        height, width = image.shape[:2]
        half = width // 2
        return [FaceBox(left, 0, half, height, 1.0) for left in (0, half)] if height >= 50 else []

    def crop(self, image: np.ndarray, box: FaceBox) -> np.ndarray:
        return image[:, box.left : box.left + box.width]


def test_faces_stay_with_their_file_however_many_each_has(model: TrainedModel, tmp_path: Path) -> None:
    files = []
    for number in range(40):
        files.append(tmp_path / f"{number:02d}.png")
        files[-1].write_bytes(picture(number, size=60 if number % 3 else 40))

    found = list(predict_files(model, files, TwoHalves()))

    assert [one.file for one in found] == [str(file) for file in files]
    assert [len(one.faces) for one in found] == [2 if number % 3 else 0 for number in range(40)]
    assert [face.box for face in found[1].faces] == [(0, 0, 30, 60), (30, 0, 60, 60)]
    (alone,) = predict_files(model, files[31:32], TwoHalves())
    assert [face.age for face in found[31].faces] == pytest.approx([face.age for face in alone.faces], rel=1e-5)


def test_folders_give_their_images_in_order_and_other_paths_are_refused(tmp_path: Path) -> None:
    for name in ("b.jpg", "below/a.PNG", "notes.txt", "a.webp"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(b"x")
    found = image_files([tmp_path / "photos", tmp_path / "photos" / "notes.txt"])
    assert [file.name for file in found.files] == ["a.webp", "b.jpg", "a.PNG", "notes.txt"]
    notes = str(tmp_path / "photos" / "notes.txt")
    assert found.left_out == [Skipped(notes, "not an image by its name or its first bytes", lost=False)]
    with pytest.raises(DataError, match="gone does not exist"):
        image_files([tmp_path / "gone"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        image_files([tmp_path / "empty"])


def test_every_file_of_a_folder_is_predicted_or_named_with_its_reason(model: TrainedModel, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(("a.jpg", "no suffix", "b.jpg_large", "c.tiff")):
        (folder / name).write_bytes(picture(number))
    (folder / "d.jp2").write_bytes(b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100))
    (folder / "linked").symlink_to(folder)
    os.mkfifo(folder / "pipe.jpg")
    found = image_files([folder])
    predicted = list(predict_files(model, found.files, None))
    assert [Path(one.file).name for one in predicted if one.faces] == ["a.jpg", "b.jpg_large", "c.tiff", "no suffix"]
    assert {Path(one.file).name: one.reason for one in found.left_out} == {
        "d.jp2": "not an image by its name or its first bytes",
        "linked": "a link to a folder",
        "pipe.jpg": "a named pipe",
    }
    (piped,) = predict_files(model, [folder / "pipe.jpg"], None)
    assert piped.error == "a named pipe, not a regular file"


class FailsOnSquares(TwoHalves):
    """A detector as OpenCV's, which raises on some images."""

    def detect(self, image: np.ndarray) -> list[FaceBox]:
        if image.shape[0] == image.shape[1]:
            raise cv2.error("(-215:Assertion failed) !ssize.empty()")
        return [FaceBox(0, 0, *image.shape[1::-1], 1.0)]


def test_a_file_that_a_detector_fails_on_keeps_no_other_from_being_predicted(
    model: TrainedModel, tmp_path: Path
) -> None:
    for name, shape in (("bad.png", (40, 40)), ("good.png", (40, 30)), ("thin.png", (1, 3000))):
        Image.fromarray(np.full((*shape, 3), 90, dtype=np.uint8)).save(tmp_path / name)
    files = [tmp_path / name for name in ("bad.png", "good.png", "thin.png")]
    bad, good, thin = predict_files(model, files, FailsOnSquares())
    assert bad.error is not None
    assert "no face can be cut out of it" in bad.error
    assert len(good.faces) == 1
    assert thin.error == "an image of 3,000 x 1 pixels; sides may differ by a factor of 50"


def test_the_faces_of_large_images_do_not_wait_for_each_other(
    model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict_module, "_PIXELS_AT_ONCE", 2 * 60 * 60)
    files = [tmp_path / f"{number}.png" for number in range(5)]
    for number, file in enumerate(files):
        file.write_bytes(picture(number, size=60))
    asked: list[int] = []

    class Counts:
        def predict(self, crops: Sequence[np.ndarray], boxes: Sequence[tuple[int, int, int, int]]) -> list[Face]:
            asked.append(len(crops))
            return model.predict(crops, boxes)

    assert [len(one.faces) for one in predict_files(Counts(), files, None)] == [1] * 5
    assert asked == [2, 2, 1]


def test_several_models_say_each_what_it_was_trained_on(model: TrainedModel, tmp_path: Path) -> None:
    gender = Study("one task", tmp_path)
    (tmp_path / "ages").mkdir()
    ages = Study("age alone", tmp_path / "ages")
    together = ModelsTogether([gender.model(), ages.model()])

    (found,) = predict_files(together, gender.files[:1], None)

    ((of_gender,), (of_age,)) = (
        next(predict_files(study.model(), gender.files[:1], None)).faces for study in (gender, ages)
    )
    (face,) = found.faces
    assert (face.age, face.gender, face.race) == (of_age.age, of_gender.gender, None)
    assert face.probabilities == {**of_gender.probabilities, **of_age.probabilities}
    assert face.probabilities.keys() == {"gender", "age"}
    with pytest.raises(ConfigError, match="several models predict gender"):
        ModelsTogether([gender.model(), model])


def test_weights_of_another_model_are_refused(model: TrainedModel, tmp_path: Path) -> None:
    study = Study("one task", tmp_path)
    with pytest.raises(CheckpointError, match="of another model"):
        TrainedModel(config_of("colour"), study.weights, TrainedLabels(study.vocabulary))


def test_the_grid_has_a_tile_for_each_face_and_refuses_to_be_empty(model: TrainedModel, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("26_1_0_x.png", "30_0_1_x.png", "unnamed.png")]
    for number, file in enumerate(files):
        file.write_bytes(picture(number))
    sizes = []
    for thumbnails in (1, 9):
        found = list(predict_files(model, files, None, thumbnails=thumbnails))
        with Image.open(io.BytesIO(grid_png(found))) as image:
            assert image.format == "PNG"
            sizes.append(image.size)
    assert sizes[1][0] > 2.5 * sizes[0][0]
    with pytest.raises(DataError, match="no face"):
        grid_png([FileFaces("a.png", error="empty")])
