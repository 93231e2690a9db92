"""Age encodings: conversion of ages to training targets and back. Definitions: ``agr_core/labels/encodings/``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import reduce
from operator import or_
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BeforeValidator, Field, field_validator, model_validator

from agr_core import plugins
from agr_core.bins import SCHEMES, Bins, BinsSpec, check_bins
from agr_core.config.base import StrictModel, Task, lists_as_tuples
from agr_core.config.extension import Extension, Member, tag_of

_BINS_DESCRIPTION = f"A scheme ({', '.join(sorted(SCHEMES))}) or the lowest age of each bin, such as [0, 13, 20, 60]."
_DECODE_DESCRIPTION = (
    "Decoding to years. expectation: mean of the bins' centres, weighted by their probabilities; argmax: centre of the "
    "most likely bin; median: centre of the bin in which the cumulative probability reaches 0.5."
)


class _Age(StrictModel):
    """Properties of an encoding that are known without importing torch."""

    extra_metrics: ClassVar[tuple[str, ...]] = ()
    """Metrics of val and test that only this encoding has."""

    speaks_for: ClassVar[tuple[Task, ...]] = ()
    """Other tasks whose predictions are derived from the age head, and which therefore must be trained."""


class BinnedAge(_Age):
    """Base of the encodings with bins."""

    bins: BinsSpec = Field(default="utk7", description=_BINS_DESCRIPTION)

    @field_validator("bins")
    @classmethod
    def _known_bins(cls, value: BinsSpec) -> BinsSpec:
        return check_bins(value)


class SoftmaxAge(BinnedAge):
    """Base of the encodings with one softmax class per bin."""

    decode: Literal["expectation", "argmax", "median"] = Field(default="expectation", description=_DECODE_DESCRIPTION)


class _YearsAge(SoftmaxAge):
    """Base of the encodings whose papers have one class per year."""

    bins: BinsSpec = Field(default="year", description=_BINS_DESCRIPTION)


class CumulativeAge(BinnedAge):
    """Base of the encodings that estimate the probability of being older than each bin."""

    decode: Literal["expectation", "median"] = Field(
        default="expectation",
        description="Decoding to years: the first centre plus each step to the next times its probability; or the "
        "centre of the bin whose index is the number of outputs above one half.",
    )


class PluginEncoding(_Age, ABC):
    """Base of age encodings in other packages, found by the entry points ``agr.encodings``.

    A subclass declares ``encoding: Literal["..."]``, the name of its entry point, and its own options. An encoding with
    bins also derives from ``SoftmaxAge``, ``CumulativeAge`` or ``BinnedAge``. Its module is imported when a sweep file
    is checked, so it imports torch only in ``build``.
    """

    encoding: str

    @abstractmethod
    def build(self) -> Any:
        """Return the encoding, an ``agr_core.labels.encodings.AgeEncoding``."""


class RegressionAge(_Age):
    """One output, (age - center) / scale; decoded to years and clipped to 0..116 (ages of faces).

    With the mean and deviation of a data set's ages as ``center`` and ``scale``, the target is the z-score. The
    defaults are close to those of the reports' data sets, so that the loss has the scale of a cross-entropy and an
    untrained output is an average age.
    """

    encoding: Literal["regression"]
    loss: Literal["l1", "mse", "smooth_l1"] = Field(default="l1", description="Loss function.")
    center: float = Field(default=35.0, ge=0, le=116, description="Age at output 0, in years.")
    scale: float = Field(default=20.0, gt=0, le=1000, description="Years per unit of the output.")
    output: Literal["linear", "sigmoid"] = Field(
        default="linear",
        description="sigmoid: the output is mapped into 0..1, that is, ages from 0 to `scale` (S2-D3).",
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
    """One softmax class per bin, cross-entropy; decoded to the expected age or the most likely bin's centre."""

    encoding: Literal["onehot"]


class DexAge(_YearsAge):
    """Deep expectation (Rothe et al. 2015): cross-entropy over one class per year, decoded to the expected age."""

    encoding: Literal["dex"]


class LabelDistributionAge(SoftmaxAge):
    """Softmax against a Gaussian around the true age, KL divergence (Geng et al. 2013; Gao et al. 2017, DLDL)."""

    encoding: Literal["label_distribution"]
    sigma: float = Field(
        default=2.0, gt=0, le=30, description="Standard deviation of the target distribution, in years."
    )


class DldlV2Age(_YearsAge):
    """``label_distribution`` plus the absolute error of the expected age (Gao et al. 2018, DLDL-v2)."""

    encoding: Literal["dldl_v2"]
    sigma: float = Field(
        default=2.0, gt=0, le=30, description="Standard deviation of the target distribution, in years."
    )
    expectation_weight: float = Field(
        default=1.0, ge=0, le=100, description="Factor of the expected age's error, per year (the paper's lambda)."
    )


class SordAge(_YearsAge):
    """Soft labels that decrease with the distance to the true bin, KL divergence (Diaz and Marathe 2019, SORD)."""

    encoding: Literal["sord"]
    distance: Literal["absolute", "squared"] = Field(
        default="squared", description="Distance between bin centres; its negative is the soft label's logit."
    )
    scale: float = Field(default=1.0, gt=0, le=100, description="Years per unit of distance.")


class MeanVarianceAge(_YearsAge):
    """Cross-entropy, plus losses on the mean and the variance of the softmax (Pan et al. 2018)."""

    encoding: Literal["mean_variance"]
    mean_weight: float = Field(
        default=0.2, ge=0, le=100, description="Factor of half the mean's squared error (years²)."
    )
    variance_weight: float = Field(default=0.05, ge=0, le=100, description="Factor of the variance (years²).")


class OrdinalAge(CumulativeAge):
    """K - 1 binary outputs "older than bin k" (Niu et al. 2016, OR-CNN)."""

    encoding: Literal["ordinal"]


class CoralAge(CumulativeAge):
    """``ordinal`` with shared weights and separate biases of the outputs (Cao et al. 2020, CORAL)."""

    encoding: Literal["coral"]


class CornAge(CumulativeAge):
    """K - 1 binary outputs "older than bin k, if older than bin k - 1" (Shi et al. 2021, CORN)."""

    encoding: Literal["corn"]


class YoungerThanAge(CumulativeAge):
    """A two-way softmax per bin, "younger than bin k?" (report S1, S1-E1); the first answer is always no."""

    extra_metrics: ClassVar[tuple[str, ...]] = ("age_acc_exact_vector", "age_acc_per_head")

    encoding: Literal["younger_than"]
    mirrored: bool = Field(
        default=False, description='Ask "older than bin k?" instead (S1-E2); the last answer is then always no.'
    )
    output_weights: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(), description="Factor of each bin's loss in training, one per bin; empty: 1 each."
    )
    weigh_evaluation: bool = Field(default=False, description="Apply output_weights in evaluation, too.")

    @model_validator(mode="after")
    def _one_weight_a_bin(self) -> Self:
        count = Bins.from_spec(self.bins).count
        if self.output_weights and len(self.output_weights) != count:
            bins = self.bins if isinstance(self.bins, str) else list(self.bins)
            raise ValueError(
                f"output_weights has {len(self.output_weights)} factors, but bins={bins} are {count} bins: "
                "give one per bin, or none."
            )
        if self.output_weights and not any(self.output_weights):
            raise ValueError("output_weights are all 0: give at least one bin a factor above 0.")
        if self.weigh_evaluation and not self.output_weights:
            raise ValueError("weigh_evaluation weighs by output_weights, and there are none: give both or neither.")
        return self


class JointGenderAge(SoftmaxAge):
    """One softmax over gender x age bins, class = bin + K x gender; also the gender head (report S1, S1-M6)."""

    extra_metrics: ClassVar[tuple[str, ...]] = ("age_gender_acc",)
    speaks_for: ClassVar[tuple[Task, ...]] = ("gender",)

    encoding: Literal["joint_gender"]
    split: Literal["marginal", "joint"] = Field(
        default="marginal",
        description="Decoding of bin and gender. marginal: each from its own marginal distribution; joint: both from "
        "the most likely class (S1-M6).",
    )

    @model_validator(mode="after")
    def _one_class_has_one_centre(self) -> Self:
        if self.split == "joint" and self.decode != "argmax":
            raise ValueError(
                f"split=joint decodes the age from the most likely class, but decode={self.decode} from all of them: "
                "set decode to argmax."
            )
        return self


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


def _extended(members: tuple[Member, ...]) -> Any:
    return Annotated[reduce(or_, members, _AnyAge), Field(discriminator="encoding")]


_ENCODINGS = Extension(
    plugins.ENCODINGS,
    PluginEncoding,
    "encoding",
    _extended,
    taken=lambda: {tag_of(age, "encoding") or "" for age in get_args(_AnyAge)},
)

AgeConfig = Annotated[Annotated[_AnyAge, Field(discriminator="encoding")], _ENCODINGS, BeforeValidator(lists_as_tuples)]


def extra_age_metrics() -> frozenset[str]:
    """Return the metrics that only some encodings report; they depend on the trial's own bins."""
    ages: tuple[Any, ...] = (*get_args(_AnyAge), *_ENCODINGS.members())
    return frozenset(name for age in ages for name in age.extra_metrics)
