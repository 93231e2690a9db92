"""Which images a trial trains on, how they are split, and how they are drawn."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from agr_core.config.base import Label, Probability, StrictModel, bare_name
from agr_core.labels.bins import MAX_AGE, BinsSpec, check_bins
from agr_core.registry import did_you_mean

AgeYears = Annotated[int, Field(ge=0, le=MAX_AGE)]


_NAME = re.compile(r"[a-z][a-z0-9_]*")


class SyntheticConfig(StrictModel):
    """The drawn faces that ``source: synthetic`` stands for."""

    like: Literal["plain", "adience", "celeba", "fairface"] = Field(
        default="plain",
        description="Whose labels the faces carry. plain: exact age, gender, UTKFace's races; adience: eight age "
        "ranges, gender, subjects, five folds; celeba: gender, forty attributes, official partition; fairface: nine "
        "age ranges, gender, seven races, official partition.",
    )
    images: int = Field(default=4000, ge=10, description="Number of faces drawn.")
    size: int = Field(default=64, ge=16, le=512, description="Height and width of each drawn face, pixels.")
    seed: int = Field(default=0, ge=0, description="Seed of the drawing; it fixes every pixel.")


SYNTHETIC = "synthetic"


def drawn_by(source: str, synthetic: SyntheticConfig) -> SyntheticConfig | None:
    """What a source draws: ``synthetic`` as configured, ``synthetic:7`` the same with seed 7; None: nothing."""
    if source == SYNTHETIC:
        return synthetic
    match = re.fullmatch(rf"{SYNTHETIC}:(\d{{1,9}})", source, re.ASCII)
    return None if match is None else synthetic.model_copy(update={"seed": int(match[1])})


class PartitionsConfig(StrictModel):
    """Which values of the data set's official partition train, validate and test."""

    train: tuple[str | int, ...] = Field(min_length=1, description="Partitions trained on.")
    val: tuple[str | int, ...] = Field(default=(), description="Partitions that validate; none: val is cut from train.")
    test: tuple[str | int, ...] = Field(default=(), description="Partitions that test; none: no test part.")

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [str(value) for value in (*self.train, *self.val, *self.test)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"partition {twice[0]!r} is named twice; a partition is in one part.")
        return self


class SplitConfig(StrictModel):
    """How the data set is cut into train, val and test; byte-identical images always fall on one side."""

    strategy: Literal["stratified", "random", "official", "kfold", "file"] = Field(
        default="stratified",
        description="stratified keeps the shares of the classes in `by` alike in all parts; official and file take a "
        "published split.",
    )
    by: tuple[Label, ...] = Field(
        default=("age",), min_length=1, description="Labels whose joint classes are kept alike (not with random)."
    )
    fractions: tuple[Probability, Probability, Probability] = Field(
        default=(0.8, 0.1, 0.1),
        description="Shares of train, val and test; they add up to 1. Where a published split has no val part, one is "
        "cut from train at the ratio of the first two.",
    )
    seed: int = Field(default=42, ge=0, description="Seed of the cut; independent of the trial's seed.")
    folds: int = Field(default=5, ge=3, le=100, description="Number of folds (kfold).")
    fold: int = Field(
        default=0,
        ge=0,
        description="The fold that tests, from 0; the one before it validates, the others train (kfold).",
    )
    partitions: PartitionsConfig | None = Field(
        default=None, description="Which official partitions are which part (official); default: those of that name."
    )
    path: str | None = Field(
        default=None,
        min_length=1,
        description="CSV file, folder of one CSV file a part, or .parquet of `agr data split` (file).",
    )
    leaks: Literal["move", "keep"] = Field(
        default="move",
        description="Identical images and images of one subject that a published split puts in several parts: move the "
        "fewest to one part, or keep the split as it was published (official, file).",
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
            raise ValueError(
                "strategy=file needs path: the CSV or Parquet file that says which image is in which part."
            )
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
"""Fields of SplitConfig that only some strategies read."""


class DataConfig(StrictModel):
    """Which images a trial trains on and how they are split."""

    source: str = Field(
        default="synthetic",
        min_length=1,
        description="synthetic (synthetic:7 for another seed), a raw folder or archive, a packed folder, or "
        "s3://bucket/prefix of a packed data set.",
    )
    sources: dict[str, str] = Field(
        default_factory=dict,
        description="Several data sets by name, each as `source` takes it; `train` and `test` name those used.",
    )
    train: tuple[str, ...] = Field(
        default=(), description="Data sets of `sources` that are joined and cut into train, val and test."
    )
    test: tuple[str, ...] = Field(
        default=(), description="Data sets of `sources` that only test, each as a whole: metrics test.<name>/..."
    )
    races: Literal["utkface", "fairface", "morph"] | None = Field(
        default=None,
        description="Race classes that those of all `sources` are mapped into; None: they have the same.",
    )
    synthetic: SyntheticConfig = Field(
        default_factory=SyntheticConfig, description="What `source: synthetic` draws; unused otherwise."
    )
    fraction: float = Field(
        default=1.0, gt=0, le=1, description="Share of the training part that is trained on, drawn by split.seed."
    )
    ages: tuple[AgeYears, AgeYears] | None = Field(
        default=None,
        description="Youngest and oldest age used, years, both included; other images, those whose age is not known "
        "and those whose age range reaches out of it are in no part. None: all.",
    )
    split: SplitConfig = Field(default_factory=SplitConfig, description="How train, val and test are cut.")

    @property
    def joined(self) -> tuple[str, ...]:
        """Names of the data sets that are used together, in order; none where there is one `source`."""
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
                raise ValueError(f"sources: {name!r} is no name; use lower-case letters, digits and _, a letter first.")
        if not self.train:
            raise ValueError(f"sources need train: the names of those to train on, of {', '.join(self.sources)}.")
        for name in self.joined:
            if name not in self.sources:
                raise ValueError(
                    f"{name!r} is not among the sources.{did_you_mean(name, self.sources)} They are: "
                    f"{', '.join(self.sources)}."
                )
            if self.joined.count(name) > 1:
                raise ValueError(
                    f"{name!r} is named twice in train={list(self.train)} and test={list(self.test)}; the test part of "
                    "what is trained on is reported anyway."
                )
        return self

    @field_validator("ages")
    @classmethod
    def _ages_ascend(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and value[0] > value[1]:
            raise ValueError(f"ages={list(value)} are upside down; write [{value[1]}, {value[0]}].")
        return value


class ShuffleSampler(StrictModel):
    """Every training image once an epoch, in a new order each epoch."""

    name: Literal["shuffle"]


class ClassSampler(StrictModel):
    """What samplers that draw by classes share."""

    by: Literal["age", "gender", "race"] = Field(
        default="age", description="Label whose classes are drawn equally often."
    )
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
            raise ValueError(f"bins with by={self.by}: age bins mean something with `by: age` only; leave them out.")
        return self


class WeightedSampler(ClassSampler):
    """Images drawn with replacement, weight 1 / (count of the image's class), as many as there are (S4-W1)."""

    name: Literal["weighted"]


class OversampleSampler(ClassSampler):
    """Every image, those of smaller classes repeatedly, so that an epoch has equally many of each class (S0-T8)."""

    name: Literal["oversample"]
    to: Literal["largest", "full"] = Field(
        default="largest",
        description="Images of each class in an epoch: as many as the largest class has, or the whole training part.",
    )


SamplerConfig = Annotated[
    Annotated[ShuffleSampler | WeightedSampler | OversampleSampler, Field(discriminator="name")],
    BeforeValidator(bare_name),
]
