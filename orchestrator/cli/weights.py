"""``agr weights``: files of initial weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.common import console, errors_in_one_line


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    weights = typer.Typer(help="Files of initial weights.", no_args_is_help=True)
    weights.command()(convert)
    weights.callback()(lambda: None)  # so that the one command keeps its name
    app.add_typer(weights, name="weights")


def convert(
    file: Annotated[Path, typer.Argument(help="A state dict as torch.save writes it (.pth, .pt).")],
    model: Annotated[str, typer.Option("--model", help="The timm model that these are the weights of.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file to write.")],
) -> None:
    """Make published weights a file that model.weights takes, and print its SHA-256; code in the file is not run.

    Example: agr weights convert efficientnet-lite0-57934424.pth --model tf_efficientnet_lite0 -o lite0.safetensors
    """
    with errors_in_one_line():
        from agr_core.identity import file_digest
        from agr_core.models.conversion import convert as write

        write(file, model, output)
        console().print(f"{output}: sha256 {file_digest(output)}", highlight=False, soft_wrap=True)
