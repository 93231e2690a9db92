"""``agr serve``: a page on this machine that predicts."""

from __future__ import annotations

from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import StorageOption, errors_in_one_line, say, storage_at
from orchestrator.cli.predict import MarginOption, ModelsOption, cropper_for, load_models

if TYPE_CHECKING:
    from agr_core.data.face_crop import FaceCropper
    from agr_core.predict import FileFaces, Predicts
    from orchestrator.serving.app import Predict
    from orchestrator.trained import Trained


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(serve)


def serve(
    model: ModelsOption,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of 127.0.0.1; 0 for one that is free.")] = 8000,
    margin: MarginOption = None,
    storage: StorageOption = None,
) -> None:
    """Serve a page on this machine: a picture in, its faces with age, gender and race out. Ctrl-C ends it.

    Example: agr serve --model 1f3a
    """
    with errors_in_one_line():
        from agr_core.errors import InputError

        try:
            from orchestrator.serving.app import HOST, build_app, listen, server_of
        except ModuleNotFoundError as error:
            raise InputError(
                f"agr serve needs {error.name}, which is not installed; pip install 'agr[serve]'."
            ) from error
        listener = listen(port)
        loaded, trained = load_models(storage_at(storage), model)
        models = {"models": [described(one) for one in trained]}
        app = build_app(predictor(loaded, cropper_for(trained, margin)), models)
        trials = ", ".join(one.trial_id for one in trained)
        say(f"http://{HOST}:{listener.getsockname()[1]} serves {trials}; Ctrl-C ends it.")
        with suppress(KeyboardInterrupt):  # how it is meant to end; uvicorn passes it on once all is closed
            server_of(app).run(sockets=[listener])


def predictor(model: Predicts, cropper: FaceCropper) -> Predict:
    """What predicts one image after the other, whoever asks."""
    from agr_core.predict import predict_bytes

    free = Lock()  # neither the model nor the detector is made for several at once

    def predict(name: str, data: bytes, crop: bool) -> FileFaces:
        with free:
            return predict_bytes(model, name, data, cropper if crop else None)

    return predict


def described(trained: Trained) -> dict[str, Any]:
    """What the page says of a model."""
    return {
        "trial_id": trained.trial_id,
        "sweep_id": trained.sweep_id,
        "epoch": trained.epoch,
        "model": trained.config.model.name,
        "image_size": trained.config.image.size,
        "tasks": list(trained.config.tasks),
    }
