"""SweepSpec: the schema of a sweep file. Its trial parts stay plain documents here; see ``space``."""

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
_MOST_BYTES = 2**63 - 1

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.ASCII)

SHARE = r"^(100|[1-9][0-9]?)(\.[0-9]+)?%$"
"""A share of the slots, such as ``50%``."""

KEEP_CHECKPOINTS = 10
"""Default number of best configurations whose weights are kept."""

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", re.ASCII)


def _bare_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class RepeatSpec(StrictModel):
    """Repetitions of each configuration."""

    seeds: int = Field(ge=1, le=1000, description="Number of seeds each configuration is trained with.")


class ConfirmSpec(StrictModel):
    """Training the best configurations again after the search, with seeds that the search did not use."""

    top: int = Field(ge=1, le=1000, description="Number of configurations, the best of the search.")
    seeds: int = Field(ge=2, le=1000, description="Number of fresh seeds each is trained with; an interval needs two.")

    @property
    def trials(self) -> int:
        """Number of trainings, if the search has enough different configurations."""
        return self.top * self.seeds


class SearchSpec(StrictModel):
    """Search algorithm and its settings."""

    algorithm: Literal["random", "grid", "tpe", "nsga2", "gp", "branched_gp"] = Field(
        description="random; grid: every point once; tpe: tree-structured Parzen estimator (Bergstra et al. 2011); "
        "nsga2: genetic algorithm for several objectives (Deb et al. 2002); "
        "gp: Gaussian process with expected improvement, for spaces without branches and trials that are not stopped; "
        "branched_gp: one for branches and early stopping (docs/search.md)."
    )
    trials: int | None = Field(
        default=None, ge=1, le=1_000_000, description="Number of configurations; grid takes all."
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="Seed of the proposals.")
    population: int | None = Field(
        default=None,
        ge=2,
        le=1000,
        description="Number of configurations in a generation of nsga2; default: trials / 10, 10 to 50.",
    )
    start: tuple[str | dict[str, Any], ...] = Field(
        default=(),
        description="Configurations to try first: partial TrialConfigs (open values are drawn), or trial IDs.",
    )
    history: tuple[str, ...] = Field(
        default=(), description="IDs of earlier sweeps whose trials inform the search from its first proposal."
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

    def brackets(self, max_epochs: int) -> tuple[Bracket, ...]:  # noqa: ARG002 - the interface of all schedulers
        """Return one bracket without rungs."""
        return (Bracket((), 1.0),)


class _Halving(StrictModel):
    """Common settings of the successive halvings."""

    grace_epochs: int = Field(default=1, ge=1, description="First rung: no trial is stopped before, epochs.")
    reduction_factor: int = Field(
        default=3, ge=2, description="Factor between rungs; 1 / factor of the trials continue."
    )

    def rungs(self, max_epochs: int) -> tuple[int, ...]:
        """Epochs at which trials are compared: ``grace_epochs * reduction_factor**k``, below ``max_epochs``."""
        rungs = []
        epoch = self.grace_epochs
        while epoch < max_epochs:
            rungs.append(epoch)
            epoch *= self.reduction_factor
        return tuple(rungs)


class AshaSpec(_Halving):
    """Asynchronous successive halving (Li et al. 2020): at each rung the best 1 / ``reduction_factor`` continue."""

    name: Literal["asha"]

    def brackets(self, max_epochs: int) -> tuple[Bracket, ...]:
        """Return one bracket with all rungs."""
        return (Bracket(self.rungs(max_epochs), 1.0),)


class HyperbandSpec(_Halving):
    """Hyperband (Li et al. 2018), each bracket halved asynchronously: a hedge against stopping late bloomers.

    Bracket i leaves the first i rungs out, and trials of different brackets are not compared; in the last one no trial
    is stopped.
    """

    name: Literal["hyperband"]

    def brackets(self, max_epochs: int) -> tuple[Bracket, ...]:
        """Return the brackets, the one with the most rungs first.

        A bracket of k rungs gets trials in proportion to ``ceil((K + 1) / (k + 1) * reduction_factor**k)``, K being all
        rungs (Li et al. 2018, algorithm 1), so that each bracket costs about equally many epochs.
        """
        rungs = self.rungs(max_epochs)
        left = [len(rungs) - skipped for skipped in range(len(rungs) + 1)]
        sizes = [math.ceil((len(rungs) + 1) / (k + 1) * self.reduction_factor**k) for k in left]
        return tuple(Bracket(rungs[i:], size / sum(sizes)) for i, size in enumerate(sizes))

    def bracket(self, number: int, *, max_epochs: int, seed: int) -> int:
        """Draw the bracket of trial ``number`` by the brackets' shares, from the seed of the search."""
        shares = [bracket.share for bracket in self.brackets(max_epochs)]
        draw = random.Random(f"hyperband/{seed}/{number}")  # noqa: S311 - not for secrets
        return draw.choices(range(len(shares)), weights=shares)[0]


SchedulerSpec = Annotated[
    Annotated[NoScheduler | AshaSpec | HyperbandSpec, Field(discriminator="name")],
    BeforeValidator(_bare_name),
]


def _bytes(value: Any) -> Any:
    """Parse an amount such as ``6GB`` or ``512MiB`` into bytes; return a value that is not text unchanged."""
    if not isinstance(value, str):
        return value
    match = _AMOUNT.fullmatch(value.strip())
    if match is None:
        raise ValueError(f"{value!r} is not an amount of memory; write it as 6GB, 512MiB or as a number of bytes.")
    number, binary = float(match[1]), match[3] == "i"
    amount = number * (1024 if binary else 1000) ** " KMGT".index(match[2] or " ")
    if amount > _MOST_BYTES:
        raise ValueError(f"{value[:30]!r} is more memory than any node has; write it as 6GB, 512MiB or bytes.")
    return int(amount)


class ResourcesSpec(StrictModel):
    """Node resources of one trial."""

    cpus: float = Field(default=1, gt=0, description="CPU cores; may be a fraction.")
    gpus: float = Field(
        default=0,
        ge=0,
        description="Number of GPUs; below 1, several trials share one; above 1, one process trains on each.",
    )
    memory: Annotated[int, Field(gt=0), BeforeValidator(_bytes, json_schema_input_type=int | str)] | None = Field(
        default=None,
        description="Main memory of one trial, as 6GB, 6GiB or bytes; a node runs only as many trials as fit its "
        "memory. Default: 1 GB per process, raised to the measured use of earlier trials.",
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
        """Default number of processes of a trial: one per GPU."""
        return max(1, math.floor(self.gpus))

    def threads(self, processes: int) -> int:
        """Return the default number of CPU threads of each of ``processes`` processes of a trial."""
        return max(1, math.floor(self.cpus / processes))


def seconds(value: Any) -> Any:
    """Parse a duration such as ``1h30m`` into seconds; return a value that is not text unchanged.

    Raises:
        ValueError: If a text is not a duration.
    """
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if not value.strip() or match is None:
        raise ValueError(f"{value!r} is not a duration; write it as 90s, 20m, 1h30m or as a number of seconds.")
    hours, minutes, rest = (float(part) if part else 0.0 for part in match.groups())
    return hours * 3600 + minutes * 60 + rest


_Duration = Annotated[float, Field(gt=0), BeforeValidator(seconds, json_schema_input_type=float | str)]


class BudgetSpec(StrictModel):
    """Limits that end the sweep before all trials are done."""

    wall: _Duration | None = Field(
        default=None, description="Wall-clock time of the sweep: 90s, 20m, 1h30m, or seconds."
    )
    gpu_hours: float | None = Field(
        default=None, gt=0, description="GPU-hours: hours that trials hold GPUs, times the number of GPUs."
    )
    usd: float | None = Field(
        default=None,
        gt=0,
        description="Cost of the nodes while the sweep runs, in dollars, at the prices they joined with.",
    )


class LimitsSpec(StrictModel):
    """Limits after which a trial counts as hung."""

    report: _Duration | None = Field(
        default=None,
        description="Longest time between two signs of progress (attempt start, stage, epoch): 30m, or seconds. "
        "A trial that exceeds it is retried. Fetching data counts to the first epoch; a stage is one step.",
    )


OutOfMemory = Literal["retry", "halve_batch", "infeasible"]
"""Treatment of a trial that runs out of memory before its first epoch is reported."""


class SweepSpec(StrictModel):
    """A sweep: trial, search space, search, early stopping, resources and budget."""

    extends: str | None = Field(
        default=None, description="Base sweep file, over which this one is merged; a path relative to this file."
    )
    profiles: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Changes by label, which `--profile LABEL` merges over this file."
    )
    name: str = Field(description="Letters, digits, - _ . , at most 60; part of the sweep's ID and its name in MLflow.")
    description: str = Field(default="", description="Purpose of the sweep.")
    tags: tuple[str, ...] = Field(default=(), description="Keywords for finding it.")
    experiment: str | None = Field(
        default=None, min_length=1, description="MLflow experiment; default: the sweep's name."
    )
    trial: dict[str, Any] = Field(default_factory=dict, description="Partial TrialConfig: the fixed part.")
    space: dict[str, Any] = Field(default_factory=dict, description="Partial TrialConfig with domains: what varies.")
    variants: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Partial TrialConfigs by label, each optionally `from` another."
    )
    repeat: RepeatSpec | None = Field(default=None, description="Repetitions of each configuration; default: none.")
    folds: int | None = Field(
        default=None,
        ge=3,
        le=100,
        description="Number of folds on which each configuration is trained; it is ranked by the mean over their "
        "validation parts. None: on one split.",
    )
    confirm: ConfirmSpec | None = Field(
        default=None, description="Retrain the best configurations with fresh seeds, and rank them by the results."
    )
    search: SearchSpec | None = Field(
        default=None, description="Search algorithm; default: grid, if the space is finite."
    )
    scheduler: SchedulerSpec = Field(
        default=NoScheduler(name="none"), description="Scheduler, which stops trials early."
    )
    objective: Objectives = Field(
        description="Metric to optimise, with its direction; or a list of several such objectives."
    )
    keep: dict[str, Objective] = Field(
        default_factory=dict,
        description="By label, an objective for which each trial keeps the weights of its best epoch, besides `best`.",
    )
    resources: ResourcesSpec = Field(default_factory=ResourcesSpec, description="Node resources of one trial.")
    budget: BudgetSpec = Field(
        default_factory=BudgetSpec, description="Limits that end the sweep before all trials are done."
    )
    retries: int = Field(default=3, ge=0, le=100, description="Number of further attempts of a failed trial.")
    out_of_memory: OutOfMemory = Field(
        default="retry",
        description="Treatment of a trial that runs out of memory before its first epoch. retry: as any failure; "
        "halve_batch: restart once with half the batch_size, which is recorded; infeasible: end the trial.",
    )
    keep_checkpoints: int | None = Field(
        default=KEEP_CHECKPOINTS,
        ge=1,
        le=1_000_000,
        description="Number of best configurations whose weights are kept once the sweep is over, with the checkpoints "
        "that `agr continue` goes on from; null: all.",
    )
    limits: LimitsSpec = Field(default_factory=LimitsSpec, description="When a trial counts as hung.")
    strict: bool = Field(
        default=False,
        description="Refuse a split in which copies of one picture, or images of one subject, are in several parts.",
    )
    concurrency: Annotated[int, Field(ge=1)] | Annotated[str, Field(pattern=SHARE)] | None = Field(
        default=None,
        description="Maximum number of concurrent trials, or their share of the slots, such as 50%, so that sweeps "
        "share a cluster; default: all slots.",
    )

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The objectives; the first one selects a trial's best epoch."""
        return self.objective if isinstance(self.objective, tuple) else (self.objective,)

    @property
    def trainings(self) -> int:
        """Number of trials of each configuration: one per fold, or per seed."""
        return self.folds or (1 if self.repeat is None else self.repeat.seeds)

    @field_validator("name")
    @classmethod
    def _usable_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError(
                f"{value!r} is not a valid name of a sweep; use 1 to 60 letters, digits, - _ . and begin with a "
                "letter or digit."
            )
        return value

    @field_validator("keep")
    @classmethod
    def _usable_labels(cls, value: dict[str, Objective]) -> dict[str, Objective]:
        for label in value:
            if label in _TAKEN_LABELS:
                raise ValueError(
                    f"the label {label!r} is reserved for the best epoch by the objective; choose another."
                )
            if not re.fullmatch(LABEL_PATTERN, label):
                raise ValueError(
                    f"{label!r} is not a valid label; use 1 to 30 letters, digits, - _ and begin with a "
                    "letter or digit."
                )
        return value

    @model_validator(mode="after")
    def _repeats_are_comparable(self) -> Self:
        if self.repeat is None and self.folds is None:
            return self
        if self.repeat is not None and self.folds is not None:
            raise ValueError(
                f"folds={self.folds} with repeat.seeds={self.repeat.seeds}: each configuration is trained on several "
                "folds or with several seeds; leave one of them out."
            )
        name, what = ("repeat", "seeds") if self.folds is None else (f"folds={self.folds}", "folds")
        if self.confirm is not None:
            raise ValueError(
                f"{name} with confirm.top={self.confirm.top}: both train configurations with several {what}; leave "
                f"`{name.partition('=')[0]}` out to confirm the best only, or `confirm` to repeat all."
            )
        if self.scheduler.name != "none":
            raise ValueError(
                f"{name} with scheduler={self.scheduler.name}: {what} of one configuration must train equally long; "
                "set scheduler: none."
            )
        if self.search is not None and self.search.algorithm not in ("grid", "random"):
            raise ValueError(
                f"{name} with search.algorithm={self.search.algorithm}: use grid or random, or variants without "
                "`search`."
            )
        return self
