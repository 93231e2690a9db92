"""Mixed training images."""

from __future__ import annotations

from pydantic import Field

from agr_core.config.base import StrictModel


class MixupConfig(StrictModel):
    """Each training image is mixed with another one of its batch (Zhang et al. 2018), and so are their losses."""

    alpha: float = Field(
        default=0.2, gt=0, le=10, description="Both parameters of the Beta distribution that the share is drawn from."
    )
