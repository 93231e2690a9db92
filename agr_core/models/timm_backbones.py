"""timm's models as backbones; the only importer of timm.

``python -m agr_core.models.timm_backbones`` writes ``timm_names.txt`` anew, after an upgrade of timm; with names of
models it prints how their files of weights are named in ``AGR_WEIGHTS``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import timm
from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from timm.layers.squeeze_excite import SEModule
from torch import Tensor, nn

from agr_core.config import TimmConfig, timm_weights
from agr_core.errors import ConfigError

_FIELD_OF_ARGUMENT = {"drop_path_rate": "model.drop_path", "global_pool": "model.pool", "img_size": "image.size"}


def build(
    config: TimmConfig, *, in_channels: int, image_size: int, pretrained: bool = False, file: Path | None = None
) -> nn.Module:
    """The backbone, with global pooling and without classifier: images (B, C, S, S) -> features (B, F).

    Pre-trained weights of three colours are summed over the channels of the first convolution for grey images (timm's
    own rule).

    Args:
        config: The model.
        in_channels: Channels C of the images.
        image_size: Side S of the images, pixels.
        pretrained: Start from timm's weights.
        file: These weights, in a file on this machine; None: timm fetches them.

    Raises:
        ConfigError: If the model does not take one of the settings or the image size, or timm's weights cannot be had.
    """
    arguments = _arguments(config, in_channels=in_channels, image_size=image_size)
    try:
        backbone: nn.Module = timm.create_model(config.name, pretrained=False, **arguments)
    except (TypeError, AssertionError, ValueError, RuntimeError) as error:
        raise ConfigError(_refusal(config, arguments, error)) from error
    if pretrained:
        backbone = _pretrained(config.name, arguments, file)
    _pool_deterministically(backbone)
    if not config.fully_connected:
        _leave_out_fully_connected(backbone, config.name)
    return SqueezeExcited(backbone, config.name) if config.squeeze_excitation else backbone


def feature_maps(name: str, *, in_channels: int) -> nn.Module:
    """A convolutional model without pooling and classifier: images (B, C, S, S) -> its last feature map."""
    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, global_pool="", in_chans=in_channels)
    return model


def load_timm_weights(model: nn.Module, name: str, *, in_channels: int, file: Path | None) -> None:
    """Load timm's weights into a model that ``feature_maps`` made.

    Raises:
        ConfigError: If they cannot be had.
    """
    arguments = {"num_classes": 0, "global_pool": "", "in_chans": in_channels}
    model.load_state_dict(_pretrained(name, arguments, file).state_dict())


def whole_model(name: str) -> nn.Module:
    """A model as timm publishes weights of it, with its classifier; its weights are random."""
    model: nn.Module = timm.create_model(name, pretrained=False)
    return model


class SqueezeExcited(nn.Module):
    """A timm model with one squeeze-and-excitation block (Hu et al. 2018) on its last feature map (S1-M10).

    The block's bottleneck is a sixteenth of the channels, the paper's ratio. ``pretrained_part`` is what files of
    the model's weights without the block fit.
    """

    def __init__(self, net: nn.Module, name: str) -> None:
        super().__init__()
        timms: Any = net
        self.net = net
        self.se = SEModule(timms.num_features, rd_ratio=1 / 16)
        self._name = name

    @property
    def pretrained_part(self) -> nn.Module:
        """The model of timm."""
        return self.net

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, F) of images (B, C, S, S)."""
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


def _pretrained(name: str, arguments: dict[str, Any], file: Path | None) -> nn.Module:
    full_name = timm_weights(name)
    given: dict[str, Any] = {} if file is None else {"pretrained_cfg_overlay": {"file": str(file)}}
    try:
        backbone: nn.Module = timm.create_model(name, pretrained=True, **arguments, **given)
    except Exception as error:  # the hub's client raises errors of several libraries
        if file is not None:
            raise ConfigError(
                f"model.weights=timm: {file} does not fit {name!r} ({type(error).__name__}: {error}). "
                "Put the file there that timm would download."
            ) from error
        raise ConfigError(
            f"model.weights=timm: timm's weights of {name!r} cannot be had ({type(error).__name__}: {error}). "
            f"Check the network, or put them into the folder AGR_WEIGHTS as {full_name}.safetensors, or give "
            "model.weights a .safetensors file, or none."
        ) from error
    return backbone


def _pool_deterministically(backbone: nn.Module) -> None:
    """Take global maxima by ``amax``: torch's adaptive max pooling has no deterministic backward pass on a GPU."""
    for module in backbone.modules():
        if isinstance(module, SelectAdaptivePool2d) and module.pool_type in ("max", "avgmax"):
            module.pool = SelectAdaptivePool2d(pool_type=f"fast{module.pool_type}").pool


def _leave_out_fully_connected(backbone: nn.Module, name: str) -> None:
    hidden = getattr(backbone, "pre_logits", None)
    if not isinstance(hidden, nn.Module) or not list(hidden.parameters()):
        raise ConfigError(
            f"model.fully_connected=false, but {name!r} has no hidden fully connected layers before its classifier "
            "(VGG has). Leave it out."
        )
    backbone.pre_logits = nn.Identity()


def write_names(file: Path) -> None:
    """Write the names of timm's models, one a line, each with the tag of its default weights if it has any."""

    def line(name: str) -> str:
        config = timm.get_pretrained_cfg(name)
        return name if config is None or not config.has_weights else f"{name} {config.tag}".rstrip()

    lines = [
        "# Models of timm and the tag of their default weights; written by `python -m agr_core.models.timm_backbones`.",
        *(line(name) for name in sorted(timm.list_models())),
    ]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for model in sys.argv[1:]:
        weights = timm_weights(model)
        sys.stdout.write(f"{weights}.safetensors\n" if weights else f"timm has no weights of {model}\n")
    if not sys.argv[1:]:
        write_names(Path(__file__).with_name("timm_names.txt"))
