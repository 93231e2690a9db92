"""A router and one expert network for each group.

Report S0's gender-specific fusion (S0-R9), report S4's gender and ethnicity hierarchies (S4-V15, S4-V16, S4-N10). The
router predicts the group, the expert of that group everything else. All networks have the same backbone and no
parameter in common. In training an image goes to the expert of its true group; judged is the predicted routing, on one
split throughout (report S4's leak, S4-V14, came from another split for each stage).

B: images, C: input channels, S: ``image.size``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from agr_core.config import CascadeConfig, Task, TrialConfig
from agr_core.data.batch import Labels
from agr_core.identity import digest
from agr_core.models import face_model
from agr_core.models.face_model import FaceModel, TaskModel
from agr_core.models.heads import LastLayer
from agr_core.models.weights_file import WeightsFile


class Cascade(TaskModel):
    """The networks of a cascade.

    Args:
        by: What the groups are: the task of the router.
        router: Predicts the group.
        experts: Predict the other tasks, one for each group, in the order of the data set's vocabulary.
        outputs: Width of each of these tasks' outputs.
    """

    def __init__(self, by: Task, router: FaceModel, experts: Sequence[FaceModel], outputs: Mapping[Task, int]) -> None:
        super().__init__()
        self.by = by
        self.router = router
        self.experts = nn.ModuleList(experts)
        self._outputs = dict(outputs)

    @property
    def backbones(self) -> list[nn.Module]:
        """The router's and those of the experts."""
        return [self.router.backbone, *(expert.get_submodule("backbone") for expert in self.experts)]

    def true_groups(self, labels: Labels) -> Tensor:
        """The group each image belongs to (B,) int64, -1 where it is not known."""
        groups: Tensor = getattr(labels, self.by)
        return groups

    def trained_labels(self, labels: Labels) -> Labels:
        """The labels without those of images that no expert is trained on, because their group is not known."""
        lost = self.true_groups(labels) < 0
        nothing = {
            name: getattr(labels, name).masked_fill(lost, float("nan")) for name in ("age", "age_low", "age_high")
        }
        nothing |= {name: getattr(labels, name).masked_fill(lost, -1) for name in ("gender", "race")}
        attributes = labels.attributes.masked_fill(lost.unsqueeze(1), float("nan"))
        return replace(labels, **nothing, attributes=attributes)

    def forward(self, images: Tensor, groups: Tensor | None = None) -> dict[Task, Tensor]:
        """Logits (B, outputs) of each task for images (B, C, S, S).

        Args:
            images: The images.
            groups: The expert of each image (B,) int64, -1 for none, whose outputs are then 0; None: the predicted one.
        """
        routed: dict[Task, Tensor] = self.router(images)
        if groups is None:
            groups = routed[self.by].argmax(dim=1)
        return routed | self._expert_logits(images, groups)

    def rerouted(self, images: Tensor, logits: Mapping[Task, Tensor], groups: Tensor) -> dict[Task, Tensor]:
        """``logits`` as they were with the routing ``groups`` (B,); where that is -1, or the same, nothing changes.

        Args:
            images: The images (B, C, S, S).
            logits: What the cascade says of them in evaluation.
            groups: The expert of each image.
        """
        elsewhere = (groups >= 0) & (groups != logits[self.by].argmax(dim=1))
        others = self._expert_logits(images, torch.where(elsewhere, groups, -1))
        changed = {task: torch.where(elsewhere.unsqueeze(1), outputs, logits[task]) for task, outputs in others.items()}
        return {**logits, **changed}

    def _expert_logits(self, images: Tensor, groups: Tensor) -> dict[Task, Tensor]:
        """The outputs (B, outputs) of each image's expert; 0 for images without one."""
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


def _logits(expert: nn.Module, images: Tensor) -> dict[Task, Tensor]:
    """What an expert says; a single image passes batch norms by their running statistics, having none of its own."""
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
    """The cascade of a trial; arguments and errors as of ``face_model.build``.

    A file of weights of a cascade is taken apart; of any other model every network starts from it. Random weights are
    other ones for each network.
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
    return Cascade(by, router, experts, widths)
