"""How an age becomes a training target and is decoded."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from agr_core.config.base import StrictModel
from agr_core.labels.bins import SCHEMES, BinsSpec, check_bins

_BINS_DESCRIPTION = f"A scheme ({', '.join(sorted(SCHEMES))}) or the lowest age of each bin, such as [0, 13, 20, 60]."


class _BinnedAge(StrictModel):
    bins: BinsSpec = Field(default="utk7", description=_BINS_DESCRIPTION)

    @field_validator("bins")
    @classmethod
    def _known_bins(cls, value: BinsSpec) -> BinsSpec:
        return check_bins(value)


class RegressionAge(StrictModel):
    """One output, (age - center) / scale; decoded to years, clipped to 0..116 (the ages faces have).

    The defaults are near the mean and deviation of the reports' data sets, so that the loss is on the scale of a
    cross-entropy and an untrained output is an average age.
    """

    encoding: Literal["regression"]
    loss: Literal["l1", "mse", "smooth_l1"] = Field(default="l1", description="Distance that is minimised.")
    center: float = Field(default=35.0, ge=0, le=116, description="Age of an output of 0, years.")
    scale: float = Field(default=20.0, gt=0, le=1000, description="Years that one unit of the output stands for.")


class OnehotAge(_BinnedAge):
    """One softmax class a bin, cross-entropy; decoded to the expected age, or to the likeliest bin's centre."""

    encoding: Literal["onehot"]
    decode: Literal["expectation", "argmax"] = Field(default="expectation", description="How years are read off.")


class OrdinalAge(_BinnedAge):
    """K - 1 binary outputs "older than bin k" (Niu et al. 2016, OR-CNN)."""

    encoding: Literal["ordinal"]


class LabelDistributionAge(_BinnedAge):
    """Softmax against a Gaussian around the true age, KL divergence (Geng et al. 2013; Gao et al. 2017, DLDL)."""

    encoding: Literal["label_distribution"]
    sigma: float = Field(default=2.0, gt=0, le=30, description="Deviation of the target distribution, years.")
    decode: Literal["expectation", "argmax"] = Field(default="expectation", description="How years are read off.")


AgeConfig = Annotated[
    RegressionAge | OnehotAge | OrdinalAge | LabelDistributionAge,
    Field(discriminator="encoding"),
]
