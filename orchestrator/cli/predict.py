"""``agr predict``: predict age, gender and race of the faces in image files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.arguments.output import output_file
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
    from agr_core.data.readers import Skipped
    from agr_core.predict.model import Face, FileFaces, ModelsTogether
    from orchestrator.results.trained_model import Trained
    from orchestrator.storage.base import Storage

ModelsOption = Annotated[
    list[str],
    typer.Option(
        "--model",
        help="Trial whose model to use: its ID, a unique prefix, or its MLflow run ID; repeat it for one trial per "
        "task.",
    ),
]
NoCropOption = Annotated[bool, typer.Option("--no-crop", help="Use each whole image as a face, without detection.")]
MarginOption = Annotated[
    float | None,
    typer.Option("--margin", help="Margin on each side, as a share of the face, if agr did not crop the model's data."),
]


def register(app: typer.Typer) -> None:
    """Add the command of this module to ``app``."""
    app.command()(predict)


def predict(
    paths: Annotated[list[Path], typer.Argument(help="Image files and folders of image files.", metavar="FILES")],
    model: ModelsOption,
    no_crop: NoCropOption = False,
    margin: MarginOption = None,
    grid: Annotated[
        Path | None,
        typer.Option("--grid", help="Also draw the faces with predicted over true labels into this PNG file."),
    ] = None,
    grad_cam: Annotated[
        Path | None,
        typer.Option(
            "--grad-cam", help="Also draw the places that each prediction depends on (Grad-CAM) into this PNG file."
        ),
    ] = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict age, gender and race of the faces in images, with the preprocessing of training and evaluation.

    Example: agr predict photos/ --model 1f3a --json
    """
    with errors_in_one_line():
        from agr_core.errors import InputError
        from agr_core.predict.files import image_files
        from agr_core.predict.grad_cam import heats_png
        from agr_core.predict.grid import MOST_FACES, grid_png
        from agr_core.predict.model import predict_files

        if grid is not None:
            output_file(grid, "--grid", suffix=".png")
        if grad_cam is not None:
            output_file(grad_cam, "--grad-cam", suffix=".png")
        if no_crop and margin is not None:
            raise InputError("--margin is for cropped faces, and --no-crop turns cropping off; give one of them.")
        files, left_out = image_files(paths)
        _say_left_out(left_out)
        loaded, trained = load_models(storage_at(storage), model)
        cropper = None if no_crop else cropper_for(trained, margin)
        results = list(
            predict_files(
                loaded,
                files,
                cropper,
                thumbnails=0 if grid is None else MOST_FACES,
                heats_of=None if grad_cam is None else loaded.heats,
            )
        )
        if grid is not None:
            grid.write_bytes(grid_png(results))
        if grad_cam is not None:
            faces = [(Path(result.file).name, face.heats) for result in results for face in result.faces]
            grad_cam.write_bytes(heats_png(faces))
        if as_json:
            print_json([result.to_json() for result in results])
        else:
            _print_faces(results)
        failed = [result for result in results if result.error is not None]
        for result in failed:
            say(f"error: {result.file}: {result.error}")
        if failed:
            raise typer.Exit(EXIT_INPUT)


def _say_left_out(left_out: Sequence[Skipped]) -> None:
    """Print each skipped file of the folders with the reason."""
    if left_out:
        say(f"{len(left_out):,} file{'s' if len(left_out) > 1 else ''} left out:")
    for entry in left_out:
        say(f"  {entry.file}: {entry.reason}")


def load_models(storage: Storage, texts: Sequence[str]) -> tuple[ModelsTogether, list[Trained]]:
    """Load the models of several trials as one predictor; also return the trained model records.

    Raises:
        NotFoundError: As ``fetched``.
        ConfigError: If two of them predict the same task, or one cannot be built.
    """
    from agr_core.predict.model import ModelsTogether, TrainedLabels, TrainedModel
    from orchestrator.results.trained_model import DRAWN, fetched
    from orchestrator.tracking.runs import trial_of_run

    models, trained = [], []
    for text in dict.fromkeys(texts):
        with fetched(storage, text, trial_of_run) as model_record:
            models.append(
                TrainedModel(model_record.config, model_record.weights, TrainedLabels(model_record.vocabulary))
            )
            trained.append(model_record)
    together = ModelsTogether(models)
    for model_record in trained:
        if model_record.only_drawn:
            say(f"warning: trial {model_record.trial_id} was {DRAWN}.")
    return together, trained


def cropper_for(trained: Sequence[Trained], margin: float | None) -> FaceCropper:
    """Return a cropper that cuts out faces as in the models' data sets.

    Args:
        trained: The models.
        margin: Margin on each side, as a share of the face, where the data sets record none; None: 0.

    Raises:
        InputError: If a margin is given although the data sets record one, or the data sets were cropped differently.
        ConfigError: If the detector is not installed, or its version differs from the one that cropped the data sets.
    """
    from agr_core.data.face_crop import FaceCropper
    from agr_core.errors import InputError

    entry = trained[0].crop
    if any(model.crop != entry for model in trained):
        crops = ", ".join(f"{model.trial_id}: {model.crop or 'not recorded'}" for model in trained)
        raise InputError(f"the models' data sets were cropped in different ways ({crops}); predict with one at a time.")
    if entry is None:
        if margin is None:
            say(
                "The model's data set was not cropped by agr: faces are cut out without a margin, about as UTKFace's "
                "are. --margin 0.25 adds a quarter of the face on each side; --no-crop takes each image as a face."
            )
        return FaceCropper(margin=margin or 0.0).load()
    if margin is not None:
        raise InputError(
            f"--margin {margin:g}: the model's data set was cropped with a margin of {entry['margin']:g}, and faces "
            "are cut out as they were there; leave --margin out."
        )
    return FaceCropper.from_manifest(entry).load()


def _print_faces(results: Sequence[FileFaces]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("file", "box", "age", "gender", "race"):
        table.add_column(title, justify="right" if title == "age" else "left", overflow="fold")
    for result in results:
        for face in result.faces:
            classes = (_class(face.gender, face, "gender"), _class(face.race, face, "race"))
            age = "" if face.age is None else f"{face.age:.1f}"
            table.add_row(result.file, "{} {} {} {}".format(*face.box), age, *classes)
        if not result.faces:
            table.add_row(result.file, "no face found" if result.error is None else "error")
    console().print(table)


def _class(name: str | None, face: Face, task: str) -> str:
    return "" if name is None else f"{name} ({face.probabilities[task][name]:.0%})"
