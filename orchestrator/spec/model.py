"""SweepSpec: what a sweep file says, checked field by field. What it says of trials stays plain here; see ``space``."""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from agr_core.config import StrictModel
from agr_core.objective import BEST, LABEL_PATTERN, Objective
from orchestrator.spec.paths import SEVERAL

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
_TAKEN_LABELS = (BEST, "last")
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.ASCII)

KEEP_CHECKPOINTS = 10
"""Of so many of a sweep's best configurations the weights stay, unless it says otherwise."""

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", re.ASCII)


def _bare_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class RepeatSpec(StrictModel):
    """How often each configuration is trained."""

    seeds: int = Field(ge=1, le=1000, description="Number of seeds each configuration is trained with.")


class ConfirmSpec(StrictModel):
    """Training the best configurations again after the search, with seeds that the search did not use."""

    top: int = Field(ge=1, le=1000, description="Number of configurations, the best of the search.")
    seeds: int = Field(ge=2, le=1000, description="Number of fresh seeds each is trained with; an interval needs two.")

    @property
    def trials(self) -> int:
        """Number of trainings, where the search has so many different configurations."""
        return self.top * self.seeds


class SearchSpec(StrictModel):
    """How configurations are proposed."""

    algorithm: Literal["random", "grid", "tpe", "nsga2", "gp", "branched_gp"] = Field(
        description="random; grid: every point once; tpe: tree-structured Parzen estimator (Bergstra et al. 2011); "
        "nsga2: genetic algorithm for several objectives (Deb et al. 2002); "
        "gp: Gaussian process with expected improvement, for spaces without branches and trials that are not stopped; "
        "branched_gp: one for branches and early stopping (docs/search.md)."
    )
    trials: int | None = Field(
        default=None, ge=1, le=1_000_000, description="Number of configurations; grid takes all there are."
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="Seed of the proposals.")
    population: int | None = Field(
        default=None,
        ge=2,
        le=1000,
        description="Configurations of a generation of nsga2; default: trials / 10, 10 to 50.",
    )
    start: tuple[str | dict[str, Any], ...] = Field(
        default=(),
        description="Tried first: partial TrialConfigs (what they leave open is drawn), or IDs of trials.",
    )
    history: tuple[str, ...] = Field(
        default=(), description="IDs of earlier sweeps, from whose trials the search learns before its first proposal."
    )


def _one_or_several(value: Any) -> str:
    return SEVERAL if isinstance(value, list | tuple) else "one"


Objectives = Annotated[
    Annotated[Objective, Tag("one")] | Annotated[tuple[Objective, ...], Field(min_length=2), Tag(SEVERAL)],
    Discriminator(_one_or_several),
]


@dataclass(frozen=True)
class Bracket:
    """Epochs at which the trials of a bracket are compared, ascending, and the share of all trials that is in it."""

    rungs: tuple[int, ...]
    share: float


class NoScheduler(StrictModel):
    """Every trial trains to its end."""

    name: Literal["none"]

    def brackets(self, max_epochs: int) -> tuple[Bracket, ...]:  # noqa: ARG002 - the same question to every scheduler
        """One, in which no trial is compared early."""
        return (Bracket((), 1.0),)


class _Halving(StrictModel):
    """What the successive halvings share."""

    grace_epochs: int = Field(default=1, ge=1, description="First rung: no trial is stopped before, epochs.")
    reduction_factor: int = Field(default=3, ge=2, description="Factor between rungs; one of so many goes on.")

    def rungs(self, max_epochs: int) -> tuple[int, ...]:
        """Epochs at which trials are compared: ``grace_epochs * reduction_factor**k``, below ``max_epochs``."""
        rungs = []
        epoch = self.grace_epochs
        while epoch < max_epochs:
            rungs.append(epoch)
            epoch *= self.reduction_factor
        return tuple(rungs)


class AshaSpec(_Halving):
    """Asynchronous successive halving (Li et al. 2020): at each rung the best 1 / ``reduction_factor`` go on."""

    name: Literal["asha"]

    def brackets(self, max_epochs: int) -> tuple[Bracket, ...]:
        """One, with all rungs."""
        return (Bracket(self.rungs(max_epochs), 1.0),)


class HyperbandSpec(_Halving):
    """Hyperband (Li et al. 2018), each bracket halved asynchronously: a hedge against stopping late bloomers.

    Bracket i leaves the first i rungs out, and trials of different brackets are not compared; in the last one no trial
    is stopped.
    """

    name: Literal["hyperband"]

    def brackets(self, max_epochs: int) -> tuple[Bracket, ...]:
        """The most eager first.

        A bracket of k rungs gets trials in proportion to ``ceil((K + 1) / (k + 1) * reduction_factor**k)``, K being all
        rungs (Li et al. 2018, algorithm 1), so that each bracket costs about equally many epochs.
        """
        rungs = self.rungs(max_epochs)
        left = [len(rungs) - skipped for skipped in range(len(rungs) + 1)]
        sizes = [math.ceil((len(rungs) + 1) / (k + 1) * self.reduction_factor**k) for k in left]
        return tuple(Bracket(rungs[i:], size / sum(sizes)) for i, size in enumerate(sizes))

    def bracket(self, number: int, *, max_epochs: int, seed: int) -> int:
        """The bracket of trial ``number``, drawn by the shares from the seed of the search."""
        shares = [bracket.share for bracket in self.brackets(max_epochs)]
        draw = random.Random(f"hyperband/{seed}/{number}")  # noqa: S311 - not for secrets
        return draw.choices(range(len(shares)), weights=shares)[0]


SchedulerSpec = Annotated[
    Annotated[NoScheduler | AshaSpec | HyperbandSpec, Field(discriminator="name")],
    BeforeValidator(_bare_name),
]


def _bytes(value: Any) -> Any:
    """Bytes of an amount such as ``6GB`` or ``512MiB``; what is no text stays as it is."""
    if not isinstance(value, str):
        return value
    match = _AMOUNT.fullmatch(value.strip())
    if match is None:
        raise ValueError(f"{value!r} is no amount of memory; write it as 6GB, 512MiB or as a number of bytes.")
    number, binary = float(match[1]), match[3] == "i"
    return int(number * (1024 if binary else 1000) ** " KMGT".index(match[2] or " "))


class ResourcesSpec(StrictModel):
    """What one trial takes of a node."""

    cpus: float = Field(default=1, gt=0, description="CPU cores; may be a fraction.")
    gpus: float = Field(
        default=0,
        ge=0,
        description="GPUs; below 1 a fraction, several trials sharing one; above 1 a process trains on each.",
    )
    memory: Annotated[int, Field(gt=0), BeforeValidator(_bytes, json_schema_input_type=int | str)] | None = Field(
        default=None,
        description="Main memory of one trial, as 6GB, 6GiB or bytes: no node runs more trials than fit its memory. "
        "Left out: 1 GB a process, and what trials turn out to hold.",
    )

    @field_validator("gpus")
    @classmethod
    def _whole_above_one(cls, value: float) -> float:
        if value > 1 and value != int(value):
            raise ValueError(
                f"gpus={value:g}: a trial can share one GPU or take whole ones; above 1 give a whole number."
            )
        return value

    @property
    def processes(self) -> int:
        """Processes that train a trial unless its configuration says so: one a GPU."""
        return max(1, math.floor(self.gpus))

    def threads(self, processes: int) -> int:
        """CPU threads of each of so many processes of a trial unless its configuration says so."""
        return max(1, math.floor(self.cpus / processes))


def seconds(value: Any) -> Any:
    """Seconds of a duration such as ``1h30m``; what is no text stays as it is.

    Raises:
        ValueError: If a text is no duration.
    """
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if not value.strip() or match is None:
        raise ValueError(f"{value!r} is no duration; write it as 90s, 20m, 1h30m or as a number of seconds.")
    hours, minutes, rest = (float(part) if part else 0.0 for part in match.groups())
    return hours * 3600 + minutes * 60 + rest


_Duration = Annotated[float, Field(gt=0), BeforeValidator(seconds, json_schema_input_type=float | str)]


class BudgetSpec(StrictModel):
    """When the sweep ends although trials are left."""

    wall: _Duration | None = Field(
        default=None, description="Wall-clock time of the sweep: 90s, 20m, 1h30m, or seconds."
    )


class LimitsSpec(StrictModel):
    """When a trial is taken for hung."""

    report: _Duration | None = Field(
        default=None,
        description="Longest time from an attempt's start, a stage or an epoch to the next: 30m, or seconds. "
        "A trial that exceeds it is retried. Fetching data belongs to the first epoch, and a stage is one wait.",
    )


OutOfMemory = Literal["retry", "halve_batch", "infeasible"]
"""What becomes of a trial that runs out of memory before its first epoch is reported."""


class SweepSpec(StrictModel):
    """One sweep: what is trained, what varies, how it is searched, what it may cost."""

    extends: str | None = Field(
        default=None, description="Sweep file that this one is laid over; a path relative to this file."
    )
    profiles: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="By label, what `--profile LABEL` lays over this file."
    )
    name: str = Field(description="Letters, digits, - _ . , at most 60; part of the sweep's ID and its name in MLflow.")
    description: str = Field(default="", description="What the sweep is to find out.")
    tags: tuple[str, ...] = Field(default=(), description="Words to find it by.")
    experiment: str | None = Field(
        default=None, min_length=1, description="MLflow experiment; default: the sweep's name."
    )
    trial: dict[str, Any] = Field(default_factory=dict, description="Partial TrialConfig: the fixed part.")
    space: dict[str, Any] = Field(default_factory=dict, description="Partial TrialConfig with domains: what varies.")
    variants: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Partial TrialConfigs by label, each optionally `from` another."
    )
    repeat: RepeatSpec | None = Field(default=None, description="None: each configuration once.")
    confirm: ConfirmSpec | None = Field(
        default=None, description="Trains the best again with fresh seeds, by which they are then ranked."
    )
    search: SearchSpec | None = Field(
        default=None, description="How configurations are proposed; default: grid, where the space has an end."
    )
    scheduler: SchedulerSpec = Field(default=NoScheduler(name="none"), description="What stops trials early.")
    objective: Objectives = Field(
        description="Metric that is optimised, and its direction; or a list of several such objectives."
    )
    keep: dict[str, Objective] = Field(
        default_factory=dict,
        description="By label, an objective for which each trial keeps the weights of its best epoch, besides `best`.",
    )
    resources: ResourcesSpec = Field(default_factory=ResourcesSpec, description="What one trial takes of a node.")
    budget: BudgetSpec = Field(default_factory=BudgetSpec, description="When the sweep ends although trials are left.")
    retries: int = Field(default=3, ge=0, le=100, description="Further attempts of a trial that fails.")
    out_of_memory: OutOfMemory = Field(
        default="retry",
        description="What becomes of a trial that runs out of memory before its first epoch: retry: a failure like any "
        "other; halve_batch: it begins once again with half of batch_size, recorded as its own; infeasible: it ends.",
    )
    keep_checkpoints: int | None = Field(
        default=KEEP_CHECKPOINTS,
        ge=1,
        le=1_000_000,
        description="Once the sweep is over, the weights of so many of its best configurations stay; null: of all.",
    )
    limits: LimitsSpec = Field(default_factory=LimitsSpec, description="When a trial is taken for hung.")
    concurrency: int | None = Field(
        default=None, ge=1, description="Most trials at a time; default: as many as there is room for."
    )

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What is optimised, the first objective first: it tells a trial's best epoch."""
        return self.objective if isinstance(self.objective, tuple) else (self.objective,)

    @field_validator("name")
    @classmethod
    def _usable_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError(
                f"{value!r} cannot name a sweep; use 1 to 60 of letters, digits, - _ . and begin with a letter or "
                "digit."
            )
        return value

    @field_validator("keep")
    @classmethod
    def _usable_labels(cls, value: dict[str, Objective]) -> dict[str, Objective]:
        for label in value:
            if label in _TAKEN_LABELS:
                raise ValueError(f"the label {label!r} is taken; `best` is kept by the objective. Choose another.")
            if not re.fullmatch(LABEL_PATTERN, label):
                raise ValueError(
                    f"{label!r} cannot be a label; use 1 to 30 of letters, digits, - _ and begin with one "
                    "of the first two."
                )
        return value

    @model_validator(mode="after")
    def _repeats_are_comparable(self) -> Self:
        if self.repeat is None:
            return self
        if self.confirm is not None:
            raise ValueError(
                f"repeat with confirm.top={self.confirm.top}: both train configurations with several seeds; leave "
                "`repeat` out to confirm the best only, or `confirm` to repeat all."
            )
        if self.scheduler.name != "none":
            raise ValueError(
                f"repeat with scheduler={self.scheduler.name}: seeds of one configuration must train equally long; "
                "set scheduler: none."
            )
        if self.search is not None and self.search.algorithm not in ("grid", "random"):
            raise ValueError(
                f"repeat with search.algorithm={self.search.algorithm}: use grid or random, or variants without "
                "`search`."
            )
        return self
