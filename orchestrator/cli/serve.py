"""``agr serve``: local web page for predictions."""

from __future__ import annotations

from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import StorageOption, errors_in_one_line, say, storage_at
from orchestrator.cli.predict import MarginOption, ModelsOption, cropper_for, load_models

if TYPE_CHECKING:
    from agr_core.data.face_crop import FaceCropper
    from agr_core.predict.model import FileFaces, Predicts
    from orchestrator.results.trained_model import Trained
    from orchestrator.serving.app import Predict


def register(app: typer.Typer) -> None:
    """Add the command of this module to ``app``."""
    app.command()(serve)


def serve(
    model: ModelsOption,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0: any free port.")] = 8000,
    margin: MarginOption = None,
    storage: StorageOption = None,
) -> None:
    """Serve a local web page that predicts age, gender and race of the faces in an image. Ctrl-C ends it.

    Example: agr serve --model 1f3a
    """
    with errors_in_one_line():
        from agr_core.errors import InputError, how_to_install

        try:
            from orchestrator.serving.app import HOST, build_app, listen, server_of
        except ModuleNotFoundError as error:
            raise InputError(
                f"agr serve needs {error.name}, which is not installed. {how_to_install('serve')}"
            ) from error
        listener = listen(port)
        loaded, trained = load_models(storage_at(storage), model)
        models = {"models": [described(model) for model in trained]}
        app = build_app(predictor(loaded, cropper_for(trained, margin)), models)
        trials = ", ".join(model.trial_id for model in trained)
        say(f"http://{HOST}:{listener.getsockname()[1]} serves {trials}; Ctrl-C ends it.")
        with suppress(KeyboardInterrupt):  # the normal end; uvicorn raises it again after closing
            server_of(app).run(sockets=[listener])


def predictor(model: Predicts, cropper: FaceCropper) -> Predict:
    """Return a prediction function that serialises concurrent requests."""
    from agr_core.predict.model import predict_bytes

    free = Lock()  # neither the model nor the detector is thread-safe

    def predict(name: str, data: bytes, crop: bool) -> FileFaces:
        with free:
            return predict_bytes(model, name, data, cropper if crop else None)

    return predict


def described(trained: Trained) -> dict[str, Any]:
    """Return the description of a model for the page."""
    return {
        "trial_id": trained.trial_id,
        "sweep_id": trained.sweep_id,
        "epoch": trained.epoch,
        "model": trained.config.model.name,
        "image_size": trained.config.image.size,
        "tasks": list(trained.config.tasks),
        "only_drawn": trained.only_drawn,
    }
