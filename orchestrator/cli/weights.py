"""``agr weights``: conversion of initial weights."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import console, errors_in_one_line, say

if TYPE_CHECKING:
    from torch import Tensor

_SHOWN = 8
_IMAGES = 256
_SIZE = 224  # of MobileNet's own training, in pixels


class Normalize(StrEnum):
    """Values of image.normalize."""

    NONE = "none"
    ZERO_ONE = "zero_one"
    MINUS_ONE_ONE = "minus_one_one"
    IMAGENET = "imagenet"


def register(app: typer.Typer) -> None:
    """Add the commands of this module to ``app``."""
    weights = typer.Typer(help="Convert initial weights.", no_args_is_help=True)
    weights.command()(convert)
    weights.callback()(lambda: None)  # without a callback, Typer drops the name of an only command
    app.add_typer(weights, name="weights")


def convert(
    file: Annotated[
        Path,
        typer.Argument(help="State dict written by torch.save (.pth, .pt), or the .json file of a tfjs graph model."),
    ],
    model: Annotated[str, typer.Option("--model", help="Name of the timm model of these weights.")],
    output: Annotated[Path, typer.Option("--output", "-o", help=".safetensors file to write.")],
    images: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="For graph models: packed faces on which statistics of folded batch norms are measured.",
        ),
    ] = None,
    normalize: Annotated[
        Normalize | None, typer.Option(help="With --images: image.normalize with which the weights will be used.")
    ] = None,
) -> None:
    """Convert published weights to a file for model.weights and print its SHA-256; code in the file is not run.

    Example: agr weights convert efficientnet-lite0-57934424.pth --model tf_efficientnet_lite0 -o lite0.safetensors
    """
    with errors_in_one_line():
        from agr_core.identity import file_digest
        from agr_core.models.conversion import convert as write

        converted = write(file, model, output, images=_images(images, normalize))
        for name, values in (
            ("weights found under", converted.wrappers),
            ("prefixes removed", converted.prefixes),
            ("ignored, of other parts", converted.left_out),
        ):
            if values:
                more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
                say(f"{name}: {', '.join(values[:_SHOWN])}{more}")
        say(f"tensors used: {converted.used}")
        if file.suffix == ".json":
            say("padded as TensorFlow does: use it with model: {pad_type: same}")
        if converted.folded:
            say(
                "its batch norms are folded: right in evaluation and with freeze: backbone. Before training its "
                "layers, have their statistics measured on faces: --images DATA --normalize RANGE"
            )
        if not converted.classifier:
            say("the file has no classifier; initialisation does not use one")
        console().print(f"{output}: sha256 {file_digest(output)}", highlight=False, soft_wrap=True)


def _images(source: str | None, normalize: Normalize | None) -> Tensor | None:
    """Return images (B, 3, S, S) float32 of a packed data set, evenly spaced, normalised as in training."""
    from agr_core.errors import InputError

    if (source is None) != (normalize is None):
        raise InputError("--images DATA and --normalize RANGE belong together: give both, or neither.")
    if source is None or normalize is None:
        return None
    import numpy as np
    import torch

    from agr_core.config import ImageConfig
    from agr_core.data.decode import decode, square
    from agr_core.trainer.images import Normalizer
    from orchestrator.assets.datasets import opened
    from orchestrator.settings import Settings

    config = ImageConfig(size=_SIZE, normalize=normalize.value)
    with opened(source, cache=Settings.from_environment().cache) as data:
        rows = np.unique(np.linspace(0, len(data) - 1, _IMAGES).round().astype(np.int64))
        pixels = [square(decode(each), _SIZE) for each in data.image_bytes(rows)]
    batch = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
    return Normalizer(config, torch.device("cpu"))(batch)
