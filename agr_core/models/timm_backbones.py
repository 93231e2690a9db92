"""timm's models as backbones; the only module that imports timm.

``python -m agr_core.models.timm_backbones`` rewrites ``timm_names.txt`` after an upgrade of timm. With names of models
as arguments it prints the names of their weights files in ``AGR_WEIGHTS``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import timm
from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from timm.layers.squeeze_excite import SEModule
from timm.models import _registry
from torch import Tensor, nn

from agr_core.config import TimmConfig, timm_weights
from agr_core.errors import ConfigError, ModelError
from agr_core.models.refusals import REFUSED_BY_LAYERS, raise_lack_of_memory, reason_of

_FIELD_OF_ARGUMENT = {
    "drop_path_rate": "model.drop_path",
    "global_pool": "model.pool",
    "pad_type": "model.pad_type",
    "img_size": "image.size",
}


def build(
    config: TimmConfig, *, in_channels: int, image_size: int, pretrained: bool = False, file: Path | None = None
) -> nn.Module:
    """Build the backbone, with global pooling and without classifier: images (B, C, S, S) -> features (B, F).

    For grey images, pretrained weights of the first convolution are summed over the three colour channels (timm's
    rule).

    Args:
        config: The model.
        in_channels: Number of image channels C.
        image_size: Image side S, in pixels.
        pretrained: Whether to start from timm's weights.
        file: Local file of these weights; None: timm downloads them.

    Raises:
        ModelError: If the model does not accept one of the settings or the image size.
        ConfigError: If timm's weights are unavailable.
    """
    arguments = _arguments(config, in_channels=in_channels, image_size=image_size)
    try:
        backbone: nn.Module = timm.create_model(config.name, pretrained=False, **arguments)
    except REFUSED_BY_LAYERS as error:
        raise_lack_of_memory(error)
        raise ModelError(_refusal(config, arguments, error)) from error
    if pretrained:
        backbone = _pretrained(config.name, arguments, file)
    _pool_deterministically(backbone)
    if not config.fully_connected:
        _leave_out_fully_connected(backbone, config.name)
    return SqueezeExcited(backbone, config.name) if config.squeeze_excitation else backbone


def feature_maps(name: str, *, in_channels: int) -> nn.Module:
    """Return a convolutional model without pooling and classifier: images (B, C, S, S) -> last feature map."""
    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, global_pool="", in_chans=in_channels)
    return model


def load_timm_weights(model: nn.Module, name: str, *, in_channels: int, file: Path | None) -> None:
    """Load timm's weights into a model made by ``feature_maps``.

    Raises:
        ConfigError: If they are unavailable.
    """
    arguments = {"num_classes": 0, "global_pool": "", "in_chans": in_channels}
    model.load_state_dict(_pretrained(name, arguments, file).state_dict())


def whole_model(name: str, **arguments: Any) -> nn.Module:
    """Return a model with its classifier, as timm publishes its weights; the weights are random.

    ``arguments`` are those of ``timm.create_model``.
    """
    model: nn.Module = timm.create_model(name, pretrained=False, **arguments)
    return model


class SqueezeExcited(nn.Module):
    """A timm model with one squeeze-and-excitation block (Hu et al. 2018) on its last feature map (S1-M10).

    The block's bottleneck is a sixteenth of the channels, the paper's ratio. ``pretrained_part`` is the module without
    the block, which the model's weights files fit.
    """

    def __init__(self, net: nn.Module, name: str) -> None:
        super().__init__()
        timms: Any = net
        self.net = net
        self.se = SEModule(timms.num_features, rd_ratio=1 / 16)
        self._name = name

    @property
    def pretrained_part(self) -> nn.Module:
        """The timm model, the part with published weights."""
        return self.net

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, F) of images (B, C, S, S)."""
        net: Any = self.net
        maps: Tensor = net.forward_features(images)
        if maps.ndim != 4 or maps.shape[1] != net.num_features:
            raise ValueError(
                f"squeeze_excitation weighs the channels of a map (B, C, H, W), and the last features of "
                f"{self._name!r} have shape {tuple(maps.shape)}"
            )
        features: Tensor = net.forward_head(self.se(maps), pre_logits=True)
        return features


def _arguments(config: TimmConfig, *, in_channels: int, image_size: int) -> dict[str, Any]:
    """Return the arguments of ``timm.create_model``; settings at their default are omitted."""
    arguments: dict[str, Any] = {"num_classes": 0, "in_chans": in_channels}
    if config.drop_path > 0:
        arguments["drop_path_rate"] = config.drop_path
    if config.pool != "default":
        arguments["global_pool"] = config.pool
    if config.pad_type != "default":
        arguments["pad_type"] = config.pad_type
    pretrained = timm.get_pretrained_cfg(config.name)
    if pretrained is not None and pretrained.fixed_input_size:  # ViT-like: position embeddings for one size only
        arguments["img_size"] = image_size
    return arguments


def _refusal(config: TimmConfig, arguments: dict[str, Any], error: Exception) -> str:
    """Return the name of the setting that the model rejected, if timm's error names it."""
    for argument, field in _FIELD_OF_ARGUMENT.items():
        if argument in arguments and f"'{argument}'" in str(error):
            return (
                f"model {config.name!r} does not take {field}={arguments[argument]!r}; "
                f"leave {field} at its default or choose another model."
            )
    given = ", ".join(f"{_FIELD_OF_ARGUMENT.get(name, name)}={value!r}" for name, value in arguments.items())
    return f"timm cannot build model {config.name!r} with {given}: {reason_of(error)}"


def _pretrained(name: str, arguments: dict[str, Any], file: Path | None) -> nn.Module:
    full_name = timm_weights(name)
    given: dict[str, Any] = {} if file is None else {"pretrained_cfg_overlay": {"file": str(file)}}
    try:
        backbone: nn.Module = timm.create_model(name, pretrained=True, **arguments, **given)
    except Exception as error:  # the hub client raises errors of several libraries
        if file is not None:
            raise ConfigError(
                f"model.weights=timm: {file} does not fit {name!r} ({type(error).__name__}: {error}). "
                "Put the file there that timm would download."
            ) from error
        raise ConfigError(
            f"model.weights=timm: timm's weights of {name!r} are not available ({type(error).__name__}: {error}). "
            f"Check the network, or put them into the folder AGR_WEIGHTS as {full_name}.safetensors, or give "
            "model.weights a .safetensors file, or none."
        ) from error
    return backbone


def _pool_deterministically(backbone: nn.Module) -> None:
    """Compute global maxima with ``amax``: adaptive max pooling has no deterministic backward pass on a GPU."""
    for module in backbone.modules():
        if isinstance(module, SelectAdaptivePool2d) and module.pool_type in ("max", "avgmax"):
            module.pool = SelectAdaptivePool2d(pool_type=f"fast{module.pool_type}").pool


def _leave_out_fully_connected(backbone: nn.Module, name: str) -> None:
    hidden = getattr(backbone, "pre_logits", None)
    if not isinstance(hidden, nn.Module) or not list(hidden.parameters()):
        raise ModelError(
            f"model.fully_connected=false, but {name!r} has no hidden fully connected layers before its classifier "
            "(VGG has). Leave it out."
        )
    backbone.pre_logits = nn.Identity()


def write_names(file: Path) -> None:
    """Write the names of timm's models and of their weights to ``file``.

    Each line is either a model, the tag of its default weights (``-``: none) and its other tags, with ``!`` before
    those without weights; or a deprecated name, ``=``, and the name that replaces it.
    """

    def line(name: str) -> str:
        full_names = timm.list_models(f"{name}.*", include_tags=True)
        config = timm.get_pretrained_cfg(name)
        default = "" if config is None or not config.has_weights else config.tag
        tags = [full.partition(".")[2] for full in full_names]
        marked = [tag if timm.is_model_pretrained(f"{name}.{tag}") else f"!{tag}" for tag in tags if tag != default]
        return " ".join([name, default or ("-" if marked else ""), *marked]).rstrip()

    lines = [
        "# Models of timm, the tag of their default weights (-: none) and their other tags (!: without weights); and",
        "# deprecated names. Written by `python -m agr_core.models.timm_backbones`.",
        *(line(name) for name in sorted(timm.list_models())),
        *(f"{old} = {new}" for old, new in sorted(_registry._deprecated_models.items())),
    ]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for model in sys.argv[1:]:
        weights = timm_weights(model)
        sys.stdout.write(f"{weights}.safetensors\n" if weights else f"timm has no weights of {model}\n")
    if not sys.argv[1:]:
        write_names(Path(__file__).with_name("timm_names.txt"))
