"""Cascade model: a router and one expert network per group.

It covers report S0's gender-specific fusion (S0-R9) and report S4's gender and ethnicity hierarchies (S4-V15, S4-V16,
S4-N10). The router predicts the group; that group's expert predicts the other tasks. All networks have the same
architecture and share no parameter. In training, an image goes to the expert of its true group or, with ``trained_on:
predicted``, of its predicted group. Evaluation always uses the predicted routing. All networks use the same split
(report S4's leak, S4-V14, came from a different split in each stage). ``train`` selects the one network that is trained
while the others are frozen, so that stages can train them in turn, each to its own best epoch.

B: images, C: input channels, S: ``image.size``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from agr_core.batch import Labels
from agr_core.config import CascadeConfig, Task, TrialConfig
from agr_core.errors import ConfigError
from agr_core.identity import digest
from agr_core.models import face_model
from agr_core.models.heads import LastLayer
from agr_core.models.task_model import FaceModel, TaskModel
from agr_core.models.weights_file import WeightsFile


class Cascade(TaskModel):
    """Router and experts as one model.

    Args:
        by: Task of the router; its classes are the groups.
        router: Network that predicts the group.
        experts: Networks that predict the other tasks, one per group, in the order of the data set's vocabulary.
        outputs: Number of outputs of each of these tasks.
        trained_on: Whether an expert trains on images of its ``true`` or of its ``predicted`` group.
        train: Networks to train: ``all``, ``router`` or the index of one expert.
    """

    def __init__(
        self,
        by: Task,
        router: FaceModel,
        experts: Sequence[FaceModel],
        outputs: Mapping[Task, int],
        *,
        trained_on: Literal["true", "predicted"] = "true",
        train: Literal["all", "router"] | int = "all",
    ) -> None:
        super().__init__()
        self.by = by
        self._trained_on = trained_on
        self._train = train
        self.router = router
        self.experts = nn.ModuleList(experts)
        self._outputs = dict(outputs)
        trained = self._trained
        for network in (router, *experts) if trained is not None else ():
            if network is not trained:
                network.requires_grad_(False)
                network.frozen = list(network.children())

    @property
    def _trained(self) -> nn.Module | None:
        """The only network that is trained; None: all are trained."""
        if self._train == "all":
            return None
        return self.router if self._train == "router" else self.experts[int(self._train)]

    @property
    def backbones(self) -> list[nn.Module]:
        """Backbones of the router and the experts."""
        return [self.router.backbone, *(expert.get_submodule("backbone") for expert in self.experts)]

    def true_groups(self, labels: Labels) -> Tensor:
        """Return the group that each image belongs to (B,) int64, -1 where it is unknown."""
        groups: Tensor = getattr(labels, self.by)
        return groups

    def training_groups(self, labels: Labels) -> Tensor | None:
        """Return the group whose expert each image trains (B,); None: the group that the router predicts."""
        return self.true_groups(labels) if self._trained_on == "true" else None

    def trained_labels(self, labels: Labels) -> Labels:
        """Return the labels used in the training loss; all others are set to unknown.

        With ``trained_on: true``, images of unknown group have no labels. If only one network is trained, labels of
        other networks' tasks are removed; if it is an expert, so are labels of images of other groups.
        """
        groups = self.true_groups(labels)
        lost = groups < 0 if self._trained_on == "true" else torch.zeros_like(groups, dtype=torch.bool)
        if self._train == "router":
            return replace(_without(labels, torch.ones_like(lost)), **{self.by: groups})
        if self._train != "all":
            others = groups != self._train
            return replace(_without(labels, others), **{self.by: torch.full_like(groups, -1)})
        return _without(labels, lost)

    def forward(self, images: Tensor, groups: Tensor | None = None) -> dict[Task, Tensor]:
        """Return logits (B, outputs) of each task for images (B, C, S, S).

        Args:
            images: The images.
            groups: Expert of each image (B,) int64; -1: no expert, outputs are 0. None: use the predicted group.
        """
        routed: dict[Task, Tensor] = self.router(images)
        if groups is None:
            groups = routed[self.by].argmax(dim=1)
        logits = routed | self._expert_logits(images, groups)
        trained = self._trained
        if trained is None or not self.training:
            return logits
        # A batch without an image for the one trained network still needs a gradient: zero.
        nothing = next(trained.parameters()).sum() * 0.0
        return {task: outputs + nothing for task, outputs in logits.items()}

    def rerouted(self, images: Tensor, logits: Mapping[Task, Tensor], groups: Tensor) -> dict[Task, Tensor]:
        """Return the logits under the routing ``groups`` (B,); rows of -1 or of the predicted group stay unchanged.

        Args:
            images: The images (B, C, S, S).
            logits: Outputs of the cascade for these images, in evaluation mode.
            groups: Expert of each image.
        """
        elsewhere = (groups >= 0) & (groups != logits[self.by].argmax(dim=1))
        others = self._expert_logits(images, torch.where(elsewhere, groups, -1))
        changed = {task: torch.where(elsewhere.unsqueeze(1), outputs, logits[task]) for task, outputs in others.items()}
        return {**logits, **changed}

    def _expert_logits(self, images: Tensor, groups: Tensor) -> dict[Task, Tensor]:
        """Return the outputs (B, outputs) of each image's expert; 0 for images without one."""
        rows = [(groups == group).nonzero().squeeze(1) for group in range(len(self.experts))]
        without = (groups < 0).nonzero().squeeze(1)
        asked = [
            (its, _logits(expert, images[its])) for its, expert in zip(rows, self.experts, strict=True) if len(its)
        ]
        place = torch.argsort(torch.cat([*(its for its, _ in asked), without]))
        gathered: dict[Task, Tensor] = {}
        for task, width in self._outputs.items():
            parts = [logits[task] for _, logits in asked]
            like = parts[0] if parts else images
            gathered[task] = torch.cat([*parts, like.new_zeros(len(without), width)])[place]
        return gathered


def _without(labels: Labels, lost: Tensor) -> Labels:
    """Return the labels, set to unknown for the images marked in ``lost`` (B,)."""
    nothing = {name: getattr(labels, name).masked_fill(lost, float("nan")) for name in ("age", "age_low", "age_high")}
    nothing |= {name: getattr(labels, name).masked_fill(lost, -1) for name in ("gender", "race")}
    attributes = labels.attributes.masked_fill(lost.unsqueeze(1), float("nan"))
    return replace(labels, **nothing, attributes=attributes)


def _logits(expert: nn.Module, images: Tensor) -> dict[Task, Tensor]:
    """Return an expert's outputs; for a single image, batch norms use running statistics instead of the batch's."""
    norms = [module for module in expert.modules() if isinstance(module, _BatchNorm) and module.training]
    alone = len(images) == 1
    for norm in norms:
        norm.train(not alone)
    logits: dict[Task, Tensor] = expert(images)
    for norm in norms:
        norm.train()
    return logits


def build(
    config: TrialConfig,
    model: CascadeConfig,
    *,
    outputs: Mapping[Task, int],
    last_layers: Mapping[Task, LastLayer],
    weights: WeightsFile | None,
    untrained: bool,
) -> Cascade:
    """Build the cascade of a trial; arguments and errors are those of ``face_model.build``.

    A weights file of a cascade is split among the networks. With a weights file of any other model, every network
    starts from it. Random weights differ between networks.
    """
    by: Task = model.by

    def network(number: int, part: str, tasks: tuple[Task, ...]) -> FaceModel:
        base = model.base.model_copy(update={name: getattr(model, name) for name in model.SHARED})
        seed = int(digest(["cascade", config.seed, number])[:15], 16)
        own = config.model_copy(update={"model": base, "tasks": tasks, "seed": seed})
        return face_model.build(
            own, outputs=outputs, last_layers=last_layers, weights=weights, untrained=untrained, part=part
        )

    others = tuple(task for task in config.tasks if task != by)
    router = network(0, "router.", (by,))
    experts = [network(1 + group, f"experts.{group}.", others) for group in range(outputs[by])]
    widths = {task: outputs[task] for task in experts[0].tasks}
    if isinstance(model.train, int) and model.train >= len(experts):
        raise ConfigError(
            f"model.train={model.train}, but there are {len(experts)} experts by {by}, counted from 0; give a smaller "
            "number, router or all."
        )
    return Cascade(by, router, experts, widths, trained_on=model.trained_on, train=model.train)
