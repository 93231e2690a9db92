"""timm's models as backbones; the only importer of timm.

``python -m agr_core.models.timm_backbones`` writes ``timm_names.txt`` anew, after an upgrade of timm.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import timm
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from agr_core.config import TimmConfig
from agr_core.errors import ConfigError

_log = logging.getLogger(__name__)

_FIELD_OF_ARGUMENT = {"drop_path_rate": "model.drop_path", "global_pool": "model.pool", "img_size": "image.size"}


def build(config: TimmConfig, *, in_channels: int, image_size: int) -> nn.Module:
    """The backbone, with global pooling and without classifier: images (B, C, S, S) -> features (B, F).

    Pre-trained weights of three colours are summed over the channels of the first convolution for grey images (timm's
    own rule); a file must fit as it is.

    Raises:
        ConfigError: If the model does not take one of the settings or the image size, or its weights cannot be had.
    """
    arguments = _arguments(config, in_channels=in_channels, image_size=image_size)
    try:
        backbone: nn.Module = timm.create_model(config.name, pretrained=False, **arguments)
    except (TypeError, AssertionError, ValueError, RuntimeError) as error:
        raise ConfigError(_refusal(config, arguments, error)) from error

    if config.weights == "timm":
        return _download(config, arguments)
    if config.weights != "none":
        load_weights(backbone, Path(config.weights))
    return backbone


def _arguments(config: TimmConfig, *, in_channels: int, image_size: int) -> dict[str, Any]:
    """What ``timm.create_model`` is called with; a setting at its default is left to the model."""
    arguments: dict[str, Any] = {"num_classes": 0, "in_chans": in_channels}
    if config.drop_path > 0:
        arguments["drop_path_rate"] = config.drop_path
    if config.pool != "default":
        arguments["global_pool"] = config.pool
    pretrained = timm.get_pretrained_cfg(config.name)
    if pretrained is not None and pretrained.fixed_input_size:  # ViT-likes: position embeddings for one size only
        arguments["img_size"] = image_size
    return arguments


def _refusal(config: TimmConfig, arguments: dict[str, Any], error: Exception) -> str:
    """Names the setting that the model did not take, if timm's error tells which."""
    for argument, field in _FIELD_OF_ARGUMENT.items():
        if argument in arguments and f"'{argument}'" in str(error):
            return (
                f"model {config.name!r} does not take {field}={arguments[argument]!r}; "
                f"leave {field} at its default or choose another model."
            )
    given = ", ".join(f"{_FIELD_OF_ARGUMENT.get(name, name)}={value!r}" for name, value in arguments.items())
    return f"timm cannot build model {config.name!r} with {given}: {error or type(error).__name__}"


def _download(config: TimmConfig, arguments: dict[str, Any]) -> nn.Module:
    try:
        backbone: nn.Module = timm.create_model(config.name, pretrained=True, **arguments)
    except Exception as error:  # the hub's client raises errors of several libraries
        raise ConfigError(
            f"model.weights=timm: timm's weights of {config.name!r} cannot be had ({type(error).__name__}: {error}). "
            "Check the network, or give model.weights a .safetensors file, or none."
        ) from error
    return backbone


def load_weights(backbone: nn.Module, file: Path) -> None:
    """Load a ``.safetensors`` file of a timm model, or of one of our checkpoints, into ``backbone``.

    Every weight of the backbone must be in the file. Of the file, only the classifier of the model (or the heads of
    our checkpoint) may be left over; it is named in a log line.

    Raises:
        ConfigError: If the file is not there, not in the safetensors format, or does not fit; the message lists what
            is missing, unexpected or of another shape.
    """
    if file.suffix != ".safetensors" or not file.is_file():
        raise ConfigError(f"model.weights={str(file)!r} must be none, timm, or an existing .safetensors file.")
    try:
        tensors = load_file(file)
    except SafetensorError as error:
        raise ConfigError(f"model.weights={str(file)!r} is not in the safetensors format: {error}.") from error

    weights, left_over = _without_classifier(tensors, backbone)
    if left_over:
        _log.info("%s: left out the classifier: %s", file, ", ".join(left_over))
    own = backbone.state_dict()
    problems = [
        _listed("missing", [name for name in own if name not in weights and not name.endswith("num_batches_tracked")]),
        _listed("unexpected", [name for name in weights if name not in own]),
        _listed(
            "of another shape",
            [
                f"{name} {tuple(weights[name].shape)} instead of {tuple(own[name].shape)}"
                for name in own
                if name in weights and weights[name].shape != own[name].shape
            ],
        ),
    ]
    if any(problems):
        raise ConfigError(
            f"model.weights={str(file)!r} does not fit the model: {'; '.join(filter(None, problems))}. "
            "Choose the model, image.size and image.color that the file was trained with."
        )
    backbone.load_state_dict(weights, strict=False)  # strict but for batch norm's step counters, which old files lack


def _without_classifier(tensors: dict[str, Tensor], backbone: nn.Module) -> tuple[dict[str, Tensor], list[str]]:
    """The backbone's weights by the backbone's own names, and the names of the classifier's."""
    if any(name.startswith("backbone.") for name in tensors):  # a checkpoint of ours
        weights = {name: tensor for name, tensor in tensors.items() if not name.startswith("heads.")}
        return {name.removeprefix("backbone."): tensor for name, tensor in weights.items()}, sorted(
            tensors.keys() - weights.keys()
        )
    classifier: Any = getattr(backbone, "pretrained_cfg", {}).get("classifier") or ()  # one name or several
    prefixes = tuple(f"{name}." for name in ((classifier,) if isinstance(classifier, str) else classifier))
    weights = {name: tensor for name, tensor in tensors.items() if not name.startswith(prefixes)}
    return weights, sorted(tensors.keys() - weights.keys())


def _listed(what: str, names: list[str], *, most: int = 8) -> str:
    if not names:
        return ""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{what}: {', '.join(names[:most])}{more}"


def write_names(file: Path) -> None:
    """Write the names of timm's models, one a line."""
    lines = [
        "# Names of the models of timm, one a line; written by `python -m agr_core.models.timm_backbones`.",
        *sorted(timm.list_models()),
    ]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_names(Path(__file__).with_name("timm_names.txt"))
