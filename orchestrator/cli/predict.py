"""``agr predict``: age, gender and race of the faces in image files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import (
    EXIT_INPUT,
    JsonOption,
    StorageOption,
    console,
    errors_in_one_line,
    print_json,
    say,
    storage_at,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agr_core.data.face_crop import FaceCropper
    from agr_core.predict import Face, FileFaces, Predicts
    from orchestrator.storage.base import Storage
    from orchestrator.trained import Trained

ModelsOption = Annotated[
    list[str],
    typer.Option(
        "--model",
        help="The trial whose model predicts: its ID, a unique beginning, or its MLflow run ID; repeated, one trial "
        "for each task.",
    ),
]
NoCropOption = Annotated[bool, typer.Option("--no-crop", help="Each image is a face as it is; look for none in it.")]
MarginOption = Annotated[
    float | None,
    typer.Option("--margin", help="Share of the face added on each side, if the model's data was not cropped by agr."),
]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(predict)


def predict(
    paths: Annotated[list[Path], typer.Argument(help="Image files, and folders of image files.", metavar="FILES")],
    model: ModelsOption,
    no_crop: NoCropOption = False,
    margin: MarginOption = None,
    grid: Annotated[
        Path | None, typer.Option("--grid", help="Also draw the faces, predicted over true, into this PNG.")
    ] = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict age, gender and race of the faces in images, exactly as the model was trained and evaluated.

    Example: agr predict photos/ --model 1f3a --json
    """
    with errors_in_one_line():
        from agr_core.errors import InputError
        from agr_core.evaluation.grid import MOST_FACES, grid_png
        from agr_core.predict import image_files, predict_files

        if grid is not None and grid.suffix.lower() != ".png":
            raise InputError(f"--grid {grid}: the picture is a PNG; give it a name that ends in .png.")
        if no_crop and margin is not None:
            raise InputError("--margin says how faces are cut out, and --no-crop that they are not; give one of them.")
        files = image_files(paths)
        loaded, trained = load_models(storage_at(storage), model)
        cropper = None if no_crop else cropper_for(trained, margin)
        found = list(predict_files(loaded, files, cropper, thumbnails=0 if grid is None else MOST_FACES))
        if grid is not None:
            grid.write_bytes(grid_png(found))
        if as_json:
            print_json([one.to_json() for one in found])
        else:
            _print_faces(found)
        failed = [one for one in found if one.error is not None]
        for one in failed:
            say(f"error: {one.file}: {one.error}")
        if failed:
            raise typer.Exit(EXIT_INPUT)


def load_models(storage: Storage, texts: Sequence[str]) -> tuple[Predicts, list[Trained]]:
    """The models of some trials as one, and what is known of each.

    Raises:
        NotFoundError: As ``fetched``.
        ConfigError: If two of them predict the same task, or one cannot be built.
    """
    from agr_core.predict import ModelsTogether, TrainedLabels, TrainedModel
    from orchestrator.trained import fetched

    models, trained = [], []
    for text in dict.fromkeys(texts):
        with fetched(storage, text) as one:
            models.append(TrainedModel(one.config, one.weights, TrainedLabels(one.vocabulary)))
            trained.append(one)
    return ModelsTogether(models), trained


def cropper_for(trained: Sequence[Trained], margin: float | None) -> FaceCropper:
    """What cuts faces out of images as those of the models' data sets were cut out.

    Args:
        trained: The models.
        margin: Share of the face added on each side, where their data sets do not say; None: 0.

    Raises:
        InputError: If a margin is given although the data sets say, or they were cropped in different ways.
        ConfigError: If the detector is not installed, or is of another version than the data sets were cropped with.
    """
    from agr_core.data.face_crop import FaceCropper
    from agr_core.errors import InputError

    entry = trained[0].crop
    if any(one.crop != entry for one in trained):
        crops = ", ".join(f"{one.trial_id}: {one.crop or 'not recorded'}" for one in trained)
        raise InputError(f"the models' data sets were cropped in different ways ({crops}); predict with one at a time.")
    if entry is None:
        if margin is None:
            say(
                "The model's data set was not cropped by agr: faces are cut out without a margin, about as UTKFace's "
                "are. --margin 0.25 adds a quarter of the face on each side; --no-crop takes each image as a face."
            )
        return FaceCropper(margin=margin or 0.0)
    if margin is not None:
        raise InputError(
            f"--margin {margin:g}: the model's data set was cropped with a margin of {entry['margin']:g}, and faces "
            "are cut out as they were there; leave --margin out."
        )
    return FaceCropper.from_manifest(entry)


def _print_faces(found: Sequence[FileFaces]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("file", "box", "age", "gender", "race"):
        table.add_column(title, justify="right" if title == "age" else "left", overflow="fold")
    for one in found:
        for face in one.faces:
            classes = (_class(face.gender, face, "gender"), _class(face.race, face, "race"))
            age = "" if face.age is None else f"{face.age:.1f}"
            table.add_row(one.file, "{} {} {} {}".format(*face.box), age, *classes)
        if not one.faces:
            table.add_row(one.file, "no face found" if one.error is None else "error")
    console().print(table)


def _class(name: str | None, face: Face, task: str) -> str:
    return "" if name is None else f"{name} ({face.probabilities[task][name]:.0%})"
