"""Interface of every model, and the model of one backbone with one head per task.

B: images, C: input channels, S: ``image.size``, G: features that the heads see.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Self

from torch import Tensor, nn

from agr_core.batch import Labels
from agr_core.config import HeadConfig, Task
from agr_core.models.heads import LastLayer, build_head, build_shared


class TaskModel(nn.Module, ABC):
    """Model of a trial: maps images to logits of each task."""

    @property
    @abstractmethod
    def backbones(self) -> list[nn.Module]:
        """All backbones of the model."""

    def true_groups(self, labels: Labels) -> Tensor | None:  # noqa: ARG002 - none
        """Return the true groups of images (B,) as ``forward`` takes them; None if the model has no groups."""
        return None

    def training_groups(self, labels: Labels) -> Tensor | None:
        """Return the groups (B,) to pass to ``forward`` in training; None: no groups, or the predicted ones."""
        return self.true_groups(labels)

    def trained_labels(self, labels: Labels) -> Labels:
        """Return the labels used in the training loss."""
        return labels


class FaceModel(TaskModel):
    """Features shared by all tasks, then one head per task.

    ``frozen`` lists the modules that stay in evaluation mode (``freezing.py``).
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
        """The backbone, as a list of one."""
        return [self.backbone]

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation mode; frozen modules stay in evaluation mode."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def forward(self, images: Tensor, groups: Tensor | None = None) -> dict[Task, Tensor]:  # noqa: ARG002 - none
        """Return logits (B, outputs) of each task that has a head, for images (B, C, S, S)."""
        features = self.shared(self.backbone(images))  # (B, G)
        return {task: self.heads[task](features) for task in self.tasks}
