"""MixUp of training images."""

from __future__ import annotations

from pydantic import Field

from agr_core.config.base import StrictModel


class MixupConfig(StrictModel):
    """Mix each training image, and its losses, with another image of its batch (Zhang et al. 2018)."""

    alpha: float = Field(
        default=0.2, gt=0, le=10, description="Both parameters of the Beta distribution from which the share is drawn."
    )
