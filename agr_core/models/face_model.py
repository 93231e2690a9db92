"""Construction of single-network models (a backbone with one head per task); registry of the project's own backbones.

B: images, C: input channels, S: ``image.size``, F: features of the backbone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from agr_core import plugins
from agr_core.config import MobilenetTransformerConfig, PluginBackbone, Task, TimmConfig, TrialConfig
from agr_core.errors import ConfigError, ModelError
from agr_core.models.basic_cnn import BasicCnn
from agr_core.models.freezing import freeze
from agr_core.models.heads import LastLayer
from agr_core.models.inception_resnet_v1 import InceptionResnetV1
from agr_core.models.levi_hassner import LeviHassner
from agr_core.models.refusals import REFUSED_BY_LAYERS, raise_lack_of_memory, reason_of
from agr_core.models.residual_attention import ResidualAttention
from agr_core.models.task_model import FaceModel
from agr_core.models.weights import load_weights
from agr_core.models.weights_file import WeightsFile, named_weights
from agr_core.registry import Registry

_LOG = logging.getLogger(__name__)

OwnBackbone = Callable[..., nn.Module]
"""Factory called with the model's config, ``in_channels`` and ``image_size``; returns a module (B, C, S, S) -> (B,
F)."""

OWN_BACKBONES: Registry[OwnBackbone] = Registry("model")
"""The project's own backbones by name; all other names are plug-ins' or timm's."""


def _mobilenet_transformer(config: MobilenetTransformerConfig, *, in_channels: int, image_size: int) -> nn.Module:
    from agr_core.models.mobilenet_transformer import MobilenetTransformer  # imports timm; see _build_backbone

    return MobilenetTransformer(config, in_channels=in_channels, image_size=image_size)


OWN_BACKBONES.register("basic_cnn", BasicCnn)
OWN_BACKBONES.register("levi_hassner", LeviHassner)
OWN_BACKBONES.register("inception_resnet_v1", InceptionResnetV1)
OWN_BACKBONES.register("residual_attention", ResidualAttention)
OWN_BACKBONES.register("mobilenet_transformer", _mobilenet_transformer)


@runtime_checkable
class PretrainedByTimm(Protocol):
    """An own backbone with a part for which timm has weights."""

    def load_timm_weights(self, file: Path | None) -> None:
        """Load timm's weights from ``file``; None: download. Raises ``ConfigError`` if they are unavailable."""
        ...


def build(
    config: TrialConfig,
    *,
    outputs: Mapping[Task, int],
    last_layers: Mapping[Task, LastLayer],
    weights: WeightsFile | None,
    untrained: bool,
    part: str = "",
) -> FaceModel:
    """Build the model of a trial; see ``build_model``. ``outputs`` may have tasks that are not trained.

    Each head ends in its layer of ``last_layers``, else in a linear layer; tasks derived from the age head have no head
    of their own. ``part`` is the name prefix of this network in a cascade's weights.
    """
    empty = [task for task in config.tasks if outputs[task] < 1]
    if empty:
        raise ConfigError(
            f"tasks={list(config.tasks)}, but the data set has no {' and no '.join(empty)} labels; "
            f"leave {', '.join(empty)} out of tasks."
        )
    file: Path | None = None
    if not untrained:
        weights = weights or named_weights(config.model)
        file = None if weights is None else weights.path
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        backbone = _build_backbone(config, file, untrained=untrained)
        features = _count_features(backbone, config)
        model = FaceModel(
            backbone,
            features=features,
            head=config.head,
            last_layers={task: last_layers.get(task, _linear(outputs[task])) for task in config.head_tasks},
        )
    if file is not None and config.model.weights != "timm":
        load_weights(model, file, heads=config.model.weights_heads, part=part)
    elif file is None and not untrained and config.model.weights == "none" and config.model.freeze != "none":
        _LOG.warning("model.freeze with model.weights=none: the frozen layers keep random weights")
    model.frozen = freeze(backbone, config.model.freeze, blank=_blank(config))
    return model.train()


def _linear(outputs: int) -> LastLayer:
    return lambda width: nn.Linear(width, outputs)


def input_channels(config: TrialConfig) -> int:
    """Return the number of image channels C: 3 for colour, 1 for luminance."""
    return 3 if config.image.color == "rgb" else 1


def _build_backbone(config: TrialConfig, file: Path | None, *, untrained: bool) -> nn.Module:
    sizes = {"in_channels": input_channels(config), "image_size": config.image.size}
    from_timm = config.model.weights == "timm" and not untrained
    if isinstance(config.model, TimmConfig):
        from agr_core.models import timm_backbones  # takes seconds to import; own models do not need it

        timm_file = file if from_timm else None
        return timm_backbones.build(config.model, **sizes, pretrained=from_timm, file=timm_file)
    if isinstance(config.model, PluginBackbone):
        return _build_plugin(config.model, **sizes)
    try:
        backbone = OWN_BACKBONES.get(config.model.name)(config.model, **sizes)
    except REFUSED_BY_LAYERS as error:  # a layer larger than the remaining feature map
        raise_lack_of_memory(error)
        raise _cannot_take(config, error) from error
    if from_timm:
        assert isinstance(backbone, PretrainedByTimm), "only configurations with a timm_name may ask for them"
        backbone.load_timm_weights(file)
    return backbone


def _build_plugin(model: PluginBackbone, *, in_channels: int, image_size: int) -> nn.Module:
    try:
        backbone = model.build(in_channels=in_channels, image_size=image_size)
    except Exception as error:
        raise_lack_of_memory(error)
        said = plugins.described(plugins.BACKBONES, model.name)
        raise ModelError(
            f"model {model.name!r} cannot be built for image.size={image_size} by {said}: {type(error).__name__}: "
            f"{reason_of(error)}. Choose another size, other options or another model."
        ) from error
    if not isinstance(backbone, nn.Module):
        said = plugins.described(plugins.BACKBONES, model.name)
        raise ModelError(f"model {model.name!r}: {said} builds {type(backbone).__name__} and no torch.nn.Module.")
    return backbone


def _count_features(backbone: nn.Module, config: TrialConfig) -> int:
    """Return the number of features F, measured with one blank image; this also checks the image size.

    timm's ``num_features`` differs from it for models with layers between pooling and classifier.
    """
    backbone.eval()
    try:
        with torch.inference_mode():
            features: Tensor = backbone(_blank(config))
    except REFUSED_BY_LAYERS as error:
        raise_lack_of_memory(error)
        raise _cannot_take(config, error) from error
    backbone.train()
    if features.ndim != 2:
        raise ModelError(
            f"model {config.model.name!r} gives features of shape {tuple(features.shape)} for one image instead of "
            "one vector; choose a model with global pooling."
        )
    return features.shape[1]


def _blank(config: TrialConfig) -> Tensor:
    return torch.zeros(1, input_channels(config), config.image.size, config.image.size)


def _cannot_take(config: TrialConfig, error: Exception) -> ModelError:
    return ModelError(
        f"model {config.model.name!r} cannot take image.size={config.image.size}: {reason_of(error)}. "
        "Choose another size or model."
    )
