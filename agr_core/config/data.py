"""Data of a trial: sources, splits and samplers."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, field_validator, model_validator

from agr_core import plugins
from agr_core.bins import MAX_AGE, BinsSpec, check_bins
from agr_core.config.base import Label, Probability, StrictModel, bare_name
from agr_core.config.extension import Extension, Member, tag_of
from agr_core.registry import did_you_mean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

AgeYears = Annotated[int, Field(ge=0, le=MAX_AGE)]


_NAME = re.compile(r"[a-z][a-z0-9_]*")


class SyntheticConfig(StrictModel):
    """Generated faces of ``source: synthetic``."""

    like: Literal["plain", "adience", "celeba", "fairface"] = Field(
        default="plain",
        description="Data set whose labels the faces imitate. plain: exact age, gender, UTKFace's races; adience: "
        "eight age ranges, gender, subjects, five folds; celeba: gender, forty attributes, official partition; "
        "fairface: nine age ranges, gender, seven races, official partition.",
    )
    images: int = Field(default=4000, ge=10, description="Number of generated faces.")
    size: int = Field(default=64, ge=16, le=512, description="Height and width of each generated face, in pixels.")
    seed: int = Field(default=0, ge=0, description="Seed of the generator; it determines every pixel.")


SYNTHETIC = "synthetic"


def drawn_by(source: str, synthetic: SyntheticConfig) -> SyntheticConfig | None:
    """Return the generator settings of a synthetic source; None for other sources.

    ``synthetic`` uses ``synthetic`` as configured; ``synthetic:7`` the same with seed 7.
    """
    if source == SYNTHETIC:
        return synthetic
    match = re.fullmatch(rf"{SYNTHETIC}:(\d{{1,9}})", source, re.ASCII)
    return None if match is None else synthetic.model_copy(update={"seed": int(match[1])})


class PartitionsConfig(StrictModel):
    """Mapping of the data set's official partitions to train, val and test."""

    train: tuple[str | int, ...] = Field(min_length=1, description="Partitions of train.")
    val: tuple[str | int, ...] = Field(default=(), description="Partitions of val; none: val is cut from train.")
    test: tuple[str | int, ...] = Field(default=(), description="Partitions of test; none: no test part.")

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [str(value) for value in (*self.train, *self.val, *self.test)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"partition {twice[0]!r} is named twice; a partition is in one part.")
        return self


class SplitConfig(StrictModel):
    """How the data set is split into train, val and test; byte-identical images always stay together."""

    strategy: Literal["stratified", "random", "official", "kfold", "file"] = Field(
        default="stratified",
        description="Split strategy. stratified keeps the class shares of `by` equal in all parts; official and file "
        "use a published split.",
    )
    by: tuple[Label, ...] = Field(
        default=("age",), min_length=1, description="Labels whose joint class shares are kept equal (not with random)."
    )
    fractions: tuple[Probability, Probability, Probability] = Field(
        default=(0.8, 0.1, 0.1),
        description="Shares of train, val and test; they sum to 1. If a published split has no val part, val is cut "
        "from train at the ratio of the first two.",
    )
    seed: int = Field(default=42, ge=0, description="Seed of the split; independent of the trial's seed.")
    folds: int = Field(default=5, ge=3, le=100, description="Number of folds (kfold).")
    fold: int = Field(
        default=0,
        ge=0,
        description="Index of the test fold, from 0; the fold before it is val, the others are train (kfold).",
    )
    partitions: PartitionsConfig | None = Field(
        default=None, description="Official partitions of each part (official); default: those named like the part."
    )
    path: str | None = Field(
        default=None,
        min_length=1,
        description="CSV file, folder with one CSV file per part, or .parquet of `agr data split` (file).",
    )
    leaks: Literal["move", "keep"] = Field(
        default="move",
        description="Identical images, and images of one subject, that a published split has in several parts: move "
        "the fewest into one part, or keep the published split (official, file).",
    )

    @model_validator(mode="after")
    def _fractions_add_up(self) -> Self:
        total = sum(self.fractions)
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"fractions={list(self.fractions)} add up to {total:g}; they must add up to 1.")
        if self.fractions[0] <= 0 or self.fractions[1] <= 0:
            raise ValueError(f"fractions={list(self.fractions)} leave train or val empty; both need a share above 0.")
        return self

    @model_validator(mode="after")
    def _fields_fit_the_strategy(self) -> Self:
        if self.strategy == "file" and self.path is None:
            raise ValueError("strategy=file needs path: the CSV or Parquet file with the part of each image.")
        for name, strategies in _OF_STRATEGIES.items():
            if self.strategy not in strategies and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name} with strategy={self.strategy} has no effect: it belongs to {' or '.join(strategies)}; "
                    "leave it out."
                )
        if self.fold >= self.folds:
            raise ValueError(f"fold={self.fold} must be below folds={self.folds}; the first fold is 0.")
        return self


_OF_STRATEGIES = {
    "folds": ("kfold",),
    "fold": ("kfold",),
    "partitions": ("official",),
    "path": ("file",),
    "leaks": ("official", "file"),
}
"""Fields of SplitConfig used only by some strategies."""


class DataConfig(StrictModel):
    """Data sets of a trial and their split."""

    source: str = Field(
        default="synthetic",
        min_length=1,
        description="synthetic (synthetic:7 for another seed), a raw folder or archive, a packed folder, or "
        "s3://bucket/prefix of a packed data set.",
    )
    sources: dict[str, str] = Field(
        default_factory=dict,
        description="Several data sets by name, each given as for `source`; `train` and `test` select among them.",
    )
    train: tuple[str, ...] = Field(
        default=(), description="Data sets of `sources` that are joined and split into train, val and test."
    )
    test: tuple[str, ...] = Field(
        default=(), description="Data sets of `sources` used as a whole for testing only; metrics test.<name>/..."
    )
    races: Literal["utkface", "fairface", "morph"] | None = Field(
        default=None,
        description="Race vocabulary into which the races of all `sources` are mapped; null: they already have the "
        "same.",
    )
    synthetic: SyntheticConfig = Field(
        default_factory=SyntheticConfig, description="Settings of `source: synthetic`; unused otherwise."
    )
    fraction: float = Field(
        default=1.0, gt=0, le=1, description="Share of the training part used for training, drawn by split.seed."
    )
    ages: tuple[AgeYears, AgeYears] | None = Field(
        default=None,
        description="Lowest and highest age used, in years, both included. Images of unknown age or with an age "
        "range not entirely inside are excluded from all parts. null: no limit.",
    )
    split: SplitConfig = Field(default_factory=SplitConfig, description="Split into train, val and test.")

    @property
    def joined(self) -> tuple[str, ...]:
        """Names of the data sets that are joined, in order; empty with a single `source`."""
        return (*self.train, *self.test)

    @model_validator(mode="after")
    def _sources_are_used(self) -> Self:
        if not self.sources:
            for name in ("train", "test", "races"):
                if getattr(self, name):
                    raise ValueError(f"{name} belongs to sources: {{name: uri, ...}}; with one `source` leave it out.")
            return self
        if self.source != type(self).model_fields["source"].default:
            raise ValueError(f"source={self.source!r} and sources: give one or the other.")
        for name in self.sources:
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"sources: {name!r} is not a valid name; use lower-case letters, digits and _, a letter first."
                )
        if not self.train:
            raise ValueError(f"sources need train: the names of those to train on, of {', '.join(self.sources)}.")
        for name in self.joined:
            if name not in self.sources:
                raise ValueError(
                    f"{name!r} is not among the sources.{did_you_mean(name, self.sources)} Sources: "
                    f"{', '.join(self.sources)}."
                )
            if self.joined.count(name) > 1:
                raise ValueError(
                    f"{name!r} is named twice in train={list(self.train)} and test={list(self.test)}; the test part of "
                    "training data sets is reported anyway."
                )
        return self

    @field_validator("ages")
    @classmethod
    def _ages_ascend(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and value[0] > value[1]:
            raise ValueError(f"ages={list(value)} are reversed; write [{value[1]}, {value[0]}].")
        return value


class ShuffleSampler(StrictModel):
    """Every training image once per epoch, in a new order each epoch."""

    name: Literal["shuffle"]


class ClassSampler(StrictModel):
    """Base of samplers that draw by class."""

    by: Literal["age", "gender", "race"] = Field(default="age", description="Label whose classes are balanced.")
    bins: BinsSpec | None = Field(
        default=None,
        description="Age scheme of the classes when `by: age`; default: the trial's own bins, else utk7.",
    )

    @field_validator("bins")
    @classmethod
    def _known_bins(cls, value: BinsSpec | None) -> BinsSpec | None:
        return None if value is None else check_bins(value)

    @model_validator(mode="after")
    def _bins_are_for_ages(self) -> Self:
        if self.bins is not None and self.by != "age":
            raise ValueError(f"bins with by={self.by}: age bins have an effect only with `by: age`; leave them out.")
        return self


class WeightedSampler(ClassSampler):
    """Draw images with replacement, weight 1 / (count of the image's class) (S4-W1).

    An epoch has as many draws as the training part has images.
    """

    name: Literal["weighted"]


class OversampleSampler(ClassSampler):
    """Every image, repeated in smaller classes so that an epoch has equally many of each class (S0-T8)."""

    name: Literal["oversample"]
    to: Literal["largest", "full"] = Field(
        default="largest",
        description="Number of images per class in an epoch: size of the largest class, or of the whole training part.",
    )


class PluginSampler(StrictModel, ABC):
    """Base of samplers in other packages, found by the entry points ``agr.samplers``.

    A subclass declares ``name: Literal["..."]``, the name of its entry point, and its own options. A sampler that draws
    by class also derives from ``ClassSampler``.
    """

    name: str

    @abstractmethod
    def order(self, classes: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
        """Return the indices 0..n-1 of the training images of an epoch in the order drawn (m,).

        Args:
            classes: Class of each training image (n,), as ``ClassSampler.by`` selects; else all of one class. Images of
                unknown class form a class of their own.
            random: Generator seeded by the trial's seed and the epoch, the only source of randomness. m is the same in
                every epoch.
        """


_AnySampler = ShuffleSampler | WeightedSampler | OversampleSampler


def _extended(members: tuple[Member, ...]) -> Any:
    return Annotated[reduce(or_, members, _AnySampler), Field(discriminator="name")]


SamplerConfig = Annotated[
    Annotated[_AnySampler, Field(discriminator="name")],
    Extension(
        plugins.SAMPLERS,
        PluginSampler,
        "name",
        _extended,
        taken=lambda: {tag_of(sampler, "name") or "" for sampler in get_args(_AnySampler)},
    ),
    BeforeValidator(bare_name),
]
