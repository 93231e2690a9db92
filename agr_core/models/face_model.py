"""A backbone with one head a task, and the registry of our own backbones.

B: images, C: input channels, S: ``image.size``, F: features of the backbone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from agr_core.config import HeadConfig, Task, TimmConfig, TrialConfig
from agr_core.errors import ConfigError
from agr_core.models.basic_cnn import BasicCnn
from agr_core.models.heads import build_head
from agr_core.registry import Registry

OwnBackbone = Callable[..., nn.Module]
"""Called with the model's config, ``in_channels`` and ``image_size``; gives a module (B, C, S, S) -> (B, F)."""

OWN_BACKBONES: Registry[OwnBackbone] = Registry("model")
"""Our own backbones by name; every other name is timm's."""

OWN_BACKBONES.register("basic_cnn", BasicCnn)


class FaceModel(nn.Module):
    """Features shared by all tasks, then one head for each."""

    def __init__(self, backbone: nn.Module, *, features: int, head: HeadConfig, outputs: Mapping[Task, int]) -> None:
        super().__init__()
        self.backbone = backbone
        self.tasks = tuple(outputs)
        self.heads = nn.ModuleDict(
            {task: build_head(head, features=features, outputs=count) for task, count in outputs.items()}
        )

    def forward(self, images: Tensor) -> dict[Task, Tensor]:
        """Logits (B, outputs) of each task for images (B, C, S, S)."""
        features = self.backbone(images)
        return {task: self.heads[task](features) for task in self.tasks}


def build(config: TrialConfig, *, outputs: Mapping[Task, int]) -> FaceModel:
    """The model of a trial; see ``agr_core.models.build_model``. ``outputs`` may count tasks that are not trained."""
    empty = [task for task in config.tasks if outputs[task] < 1]
    if empty:
        raise ConfigError(
            f"tasks={list(config.tasks)}, but the data set has no {' and no '.join(empty)} labels; "
            f"leave {', '.join(empty)} out of tasks."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        backbone = _build_backbone(config)
        features = _count_features(backbone, config)
        return FaceModel(
            backbone,
            features=features,
            head=config.head,
            outputs={task: outputs[task] for task in config.tasks},
        )


def input_channels(config: TrialConfig) -> int:
    """Channels C of the images: 3 of colour, 1 of luminance."""
    return 3 if config.image.color == "rgb" else 1


def _build_backbone(config: TrialConfig) -> nn.Module:
    sizes = {"in_channels": input_channels(config), "image_size": config.image.size}
    if isinstance(config.model, TimmConfig):
        from agr_core.models import timm_backbones  # seconds of import that our own models can do without

        return timm_backbones.build(config.model, **sizes)
    return OWN_BACKBONES.get(config.model.name)(config.model, **sizes)


def _count_features(backbone: nn.Module, config: TrialConfig) -> int:
    """Features F, found by passing one blank image through; so an image size that does not fit is found as well.

    timm's ``num_features`` is another number where a model has layers between pooling and classifier.
    """
    backbone.eval()
    size = config.image.size
    try:
        with torch.inference_mode():
            features: Tensor = backbone(torch.zeros(1, input_channels(config), size, size))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ConfigError(
            f"model {config.model.name!r} cannot take image.size={size}: {error or type(error).__name__}. "
            "Choose another size or model."
        ) from error
    backbone.train()
    if features.ndim != 2:
        raise ConfigError(
            f"model {config.model.name!r} gives features of shape {tuple(features.shape)} for one image instead of "
            "one vector; choose a model with global pooling."
        )
    return features.shape[1]
