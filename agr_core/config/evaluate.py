"""Evaluations besides the val part of each epoch and the sealed test part."""

from __future__ import annotations

from pydantic import Field

from agr_core.config.base import StrictModel


class EvaluateConfig(StrictModel):
    """Further evaluations of the kept weights after the training; they do not affect the training."""

    train: bool = Field(
        default=False,
        description="Also evaluate the train part without augmentation: train/... with all metrics of val.",
    )
    augment: bool = Field(
        default=False,
        description="Also evaluate val and test with the training's augmentation, MixUp included: val_augmented/..., "
        "test_augmented/....",
    )
    test: bool = Field(
        default=False,
        description="For a stage: evaluate its test part with its best weights. A trial's own test part is evaluated "
        "after the sweep regardless of this setting.",
    )
