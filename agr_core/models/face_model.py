"""A backbone with one head a task, and the registry of our own backbones.

B: images, C: input channels, S: ``image.size``, F: features of the backbone, G: features that the heads see (F without
shared layers).
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from agr_core.config import HeadConfig, MobilenetTransformerConfig, Task, TimmConfig, TrialConfig
from agr_core.data.batch import Labels
from agr_core.errors import ConfigError
from agr_core.models.basic_cnn import BasicCnn
from agr_core.models.freezing import freeze
from agr_core.models.heads import LastLayer, build_head, build_shared
from agr_core.models.inception_resnet_v1 import InceptionResnetV1
from agr_core.models.levi_hassner import LeviHassner
from agr_core.models.residual_attention import ResidualAttention
from agr_core.models.weights import load_weights
from agr_core.models.weights_file import WeightsFile, named_weights
from agr_core.registry import Registry

_LOG = logging.getLogger(__name__)

OwnBackbone = Callable[..., nn.Module]
"""Called with the model's config, ``in_channels`` and ``image_size``; gives a module (B, C, S, S) -> (B, F)."""

OWN_BACKBONES: Registry[OwnBackbone] = Registry("model")
"""Our own backbones by name; every other name is timm's."""


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
    """A backbone of ours with a part that timm has weights for."""

    def load_timm_weights(self, file: Path | None) -> None:
        """Load them from ``file``; None: timm fetches them. Raises ``ConfigError`` if they cannot be had."""
        ...


class TaskModel(nn.Module, ABC):
    """What a trial trains: images in, logits of each task out."""

    @property
    @abstractmethod
    def backbones(self) -> list[nn.Module]:
        """All backbones."""

    def true_groups(self, labels: Labels) -> Tensor | None:  # noqa: ARG002 - none
        """What ``forward`` takes as the groups of training images (B,); None where it needs none."""
        return None

    def trained_labels(self, labels: Labels) -> Labels:
        """The labels that the outputs for training images are held against."""
        return labels


class FaceModel(TaskModel):
    """Features shared by all tasks, then one head for each.

    ``frozen`` are the modules that stay in evaluation mode (``freezing.py``).
    """

    def __init__(
        self, backbone: nn.Module, *, features: int, head: HeadConfig, last_layers: Mapping[Task, LastLayer]
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.tasks = tuple(last_layers)
        self.shared, width = build_shared(head, features=features)
        self.heads = nn.ModuleDict(
            {task: build_head(head, features=width, last=last) for task, last in last_layers.items()}
        )

        self.frozen: list[nn.Module] = []

    @property
    def backbones(self) -> list[nn.Module]:
        """The one backbone."""
        return [self.backbone]

    def train(self, mode: bool = True) -> Self:
        """Turn to training or evaluation; frozen modules stay in evaluation."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def forward(self, images: Tensor, groups: Tensor | None = None) -> dict[Task, Tensor]:  # noqa: ARG002 - none
        """Logits (B, outputs) of each task that has a head, for images (B, C, S, S)."""
        features = self.shared(self.backbone(images))  # (B, G)
        return {task: self.heads[task](features) for task in self.tasks}


def build(
    config: TrialConfig,
    *,
    outputs: Mapping[Task, int],
    last_layers: Mapping[Task, LastLayer],
    weights: WeightsFile | None,
    untrained: bool,
    part: str = "",
) -> FaceModel:
    """The model of a trial; see ``agr_core.models.build_model``. ``outputs`` may count tasks that are not trained.

    A task ends in a linear layer, or in what ``last_layers`` says; the tasks the age head speaks for have no head.
    ``part`` is how the names of a part of a cascade begin in the cascade's weights.
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
    """Channels C of the images: 3 of colour, 1 of luminance."""
    return 3 if config.image.color == "rgb" else 1


def _build_backbone(config: TrialConfig, file: Path | None, *, untrained: bool) -> nn.Module:
    sizes = {"in_channels": input_channels(config), "image_size": config.image.size}
    from_timm = config.model.weights == "timm" and not untrained
    if isinstance(config.model, TimmConfig):
        from agr_core.models import timm_backbones  # seconds of import that our own models can do without

        timm_file = file if from_timm else None
        return timm_backbones.build(config.model, **sizes, pretrained=from_timm, file=timm_file)
    try:
        backbone = OWN_BACKBONES.get(config.model.name)(config.model, **sizes)
    except RuntimeError as error:  # a layer larger than what is left of the image
        raise _cannot_take(config, error) from error
    if from_timm:
        assert isinstance(backbone, PretrainedByTimm), "only configurations with a timm_name may ask for them"
        backbone.load_timm_weights(file)
    return backbone


def _count_features(backbone: nn.Module, config: TrialConfig) -> int:
    """Features F, found by passing one blank image through; so an image size that does not fit is found as well.

    timm's ``num_features`` is another number where a model has layers between pooling and classifier.
    """
    backbone.eval()
    try:
        with torch.inference_mode():
            features: Tensor = backbone(_blank(config))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise _cannot_take(config, error) from error
    backbone.train()
    if features.ndim != 2:
        raise ConfigError(
            f"model {config.model.name!r} gives features of shape {tuple(features.shape)} for one image instead of "
            "one vector; choose a model with global pooling."
        )
    return features.shape[1]


def _blank(config: TrialConfig) -> Tensor:
    return torch.zeros(1, input_channels(config), config.image.size, config.image.size)


def _cannot_take(config: TrialConfig, error: Exception) -> ConfigError:
    return ConfigError(
        f"model {config.model.name!r} cannot take image.size={config.image.size}: {error or type(error).__name__}. "
        "Choose another size or model."
    )
