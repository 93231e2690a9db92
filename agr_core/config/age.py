"""How an age becomes a training target and is decoded. What each encoding does: ``agr_core/labels/encodings/``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from agr_core.config.base import StrictModel, Task
from agr_core.labels.bins import SCHEMES, Bins, BinsSpec, check_bins

_BINS_DESCRIPTION = f"A scheme ({', '.join(sorted(SCHEMES))}) or the lowest age of each bin, such as [0, 13, 20, 60]."
_DECODE_DESCRIPTION = (
    "How years are read off: the bins' centres weighted by their probabilities; the centre of the likeliest bin; or "
    "that of the bin in which the cumulated probability reaches one half."
)


class _Age(StrictModel):
    """What every encoding says of itself before torch is imported."""

    extra_metrics: ClassVar[tuple[str, ...]] = ()
    """Figures of val and test beyond those of every encoding."""

    speaks_for: ClassVar[tuple[Task, ...]] = ()
    """Other tasks whose prediction is read off the age head, and which therefore must be trained."""


class BinnedAge(_Age):
    """What the encodings with bins share."""

    bins: BinsSpec = Field(default="utk7", description=_BINS_DESCRIPTION)

    @field_validator("bins")
    @classmethod
    def _known_bins(cls, value: BinsSpec) -> BinsSpec:
        return check_bins(value)


class SoftmaxAge(BinnedAge):
    """What the encodings with one softmax class a bin share."""

    decode: Literal["expectation", "argmax", "median"] = Field(default="expectation", description=_DECODE_DESCRIPTION)


class _YearsAge(SoftmaxAge):
    """The papers of these encodings have one class a year."""

    bins: BinsSpec = Field(default="year", description=_BINS_DESCRIPTION)


class CumulativeAge(BinnedAge):
    """What the encodings share that estimate how likely a face is older than each bin."""

    decode: Literal["expectation", "median"] = Field(
        default="expectation",
        description="How years are read off: the first centre plus each step to the next times its probability; or the "
        "centre of the bin that the outputs above one half count up to.",
    )


class RegressionAge(_Age):
    """One output, (age - center) / scale; decoded to years, clipped to 0..116 (the ages faces have).

    With the mean and deviation of a data set's ages as ``center`` and ``scale`` the target is the z-score; the defaults
    are near those of the reports' data sets, so that the loss is on the scale of a cross-entropy and an untrained
    output is an average age.
    """

    encoding: Literal["regression"]
    loss: Literal["l1", "mse", "smooth_l1"] = Field(default="l1", description="Distance that is minimised.")
    center: float = Field(default=35.0, ge=0, le=116, description="Age of an output of 0, years.")
    scale: float = Field(default=20.0, gt=0, le=1000, description="Years that one unit of the output stands for.")
    output: Literal["linear", "sigmoid"] = Field(
        default="linear",
        description="sigmoid: the output is squeezed into 0..1, that is ages from 0 to `scale` (S2-D3).",
    )

    @model_validator(mode="after")
    def _sigmoid_starts_at_birth(self) -> Self:
        if self.output == "sigmoid" and self.center != 0:
            raise ValueError(
                f"output=sigmoid with center={self.center:g}, scale={self.scale:g} reaches the ages "
                f"{self.center:g} to {self.center + self.scale:g} only: set center to 0 and scale to the oldest age, "
                "such as 116."
            )
        return self


class OnehotAge(SoftmaxAge):
    """One softmax class a bin, cross-entropy; decoded to the expected age, or to the likeliest bin's centre."""

    encoding: Literal["onehot"]


class DexAge(_YearsAge):
    """Deep expectation (Rothe et al. 2015): cross-entropy over one class a year, decoded to the expected age."""

    encoding: Literal["dex"]


class LabelDistributionAge(SoftmaxAge):
    """Softmax against a Gaussian around the true age, KL divergence (Geng et al. 2013; Gao et al. 2017, DLDL)."""

    encoding: Literal["label_distribution"]
    sigma: float = Field(default=2.0, gt=0, le=30, description="Deviation of the target distribution, years.")


class DldlV2Age(_YearsAge):
    """``label_distribution`` plus the absolute error of the expected age (Gao et al. 2018, DLDL-v2)."""

    encoding: Literal["dldl_v2"]
    sigma: float = Field(default=2.0, gt=0, le=30, description="Deviation of the target distribution, years.")
    expectation_weight: float = Field(
        default=1.0, ge=0, le=100, description="Factor of the expected age's error, per year (the paper's lambda)."
    )


class SordAge(_YearsAge):
    """Soft labels that fall off with the distance to the true bin, KL divergence (Diaz and Marathe 2019, SORD)."""

    encoding: Literal["sord"]
    distance: Literal["absolute", "squared"] = Field(
        default="squared", description="Distance between bin centres whose negative is the soft label's logit."
    )
    scale: float = Field(default=1.0, gt=0, le=100, description="Years that count as a distance of 1.")


class MeanVarianceAge(_YearsAge):
    """Cross-entropy, plus losses on the mean and the variance of the softmax (Pan et al. 2018)."""

    encoding: Literal["mean_variance"]
    mean_weight: float = Field(
        default=0.2, ge=0, le=100, description="Factor of half the mean's squared error, years²."
    )
    variance_weight: float = Field(default=0.05, ge=0, le=100, description="Factor of the variance, years².")


class OrdinalAge(CumulativeAge):
    """K - 1 binary outputs "older than bin k" (Niu et al. 2016, OR-CNN)."""

    encoding: Literal["ordinal"]


class CoralAge(CumulativeAge):
    """``ordinal`` whose outputs share their weights and differ in their biases (Cao et al. 2020, CORAL)."""

    encoding: Literal["coral"]


class CornAge(CumulativeAge):
    """K - 1 binary outputs "older than bin k, if older than bin k - 1" (Shi et al. 2021, CORN)."""

    encoding: Literal["corn"]


class YoungerThanAge(CumulativeAge):
    """A two-way softmax a bin, "younger than bin k?" (report S1, S1-E1); the first one's answer is always no."""

    extra_metrics: ClassVar[tuple[str, ...]] = ("age_acc_exact_vector", "age_acc_per_head")

    encoding: Literal["younger_than"]
    mirrored: bool = Field(
        default=False, description='Ask "older than bin k?" instead (S1-E2); the last answer is then always no.'
    )
    output_weights: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(), description="Factor of each bin's loss in training, one a bin; empty: 1 each."
    )

    @model_validator(mode="after")
    def _one_weight_a_bin(self) -> Self:
        count = Bins.from_spec(self.bins).count
        if self.output_weights and len(self.output_weights) != count:
            bins = self.bins if isinstance(self.bins, str) else list(self.bins)
            raise ValueError(
                f"output_weights has {len(self.output_weights)} factors, but bins={bins} are {count} bins: "
                "give one a bin, or none."
            )
        if self.output_weights and not any(self.output_weights):
            raise ValueError("output_weights are all 0: give at least one bin a factor above 0.")
        return self


class JointGenderAge(SoftmaxAge):
    """One softmax over gender x age bins, class = bin + K x gender; it is the gender head too (report S1, S1-M6)."""

    extra_metrics: ClassVar[tuple[str, ...]] = ("age_gender_acc",)
    speaks_for: ClassVar[tuple[Task, ...]] = ("gender",)

    encoding: Literal["joint_gender"]


_AnyAge = (
    RegressionAge
    | OnehotAge
    | OrdinalAge
    | LabelDistributionAge
    | DexAge
    | DldlV2Age
    | SordAge
    | MeanVarianceAge
    | CoralAge
    | CornAge
    | YoungerThanAge
    | JointGenderAge
)

AgeConfig = Annotated[_AnyAge, Field(discriminator="encoding")]

EXTRA_AGE_METRICS: frozenset[str] = frozenset(name for age in get_args(_AnyAge) for name in age.extra_metrics)
"""Figures that some encodings report beyond those of all; they depend on the trial's own bins."""
