"""How the losses of the tasks become one."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agr_core.config.base import DropoutRate, StrictModel

LossWeight = Annotated[float, Field(ge=0)]


class LossWeights(StrictModel):
    """Factor of each task's loss in the sum."""

    age: LossWeight = Field(default=1.0, description="Factor of the age loss.")
    gender: LossWeight = Field(default=1.0, description="Factor of the gender loss.")
    race: LossWeight = Field(default=1.0, description="Factor of the race loss.")


class LossConfig(StrictModel):
    """The weighted sum of the tasks' losses."""

    weights: LossWeights = Field(default_factory=LossWeights, description="Factor of each task's loss.")
    label_smoothing: DropoutRate = Field(
        default=0.0, description="Mass moved from the true class to all classes, in every softmax loss."
    )
