"""Check the search of a sweep: algorithm and space, early stopping, objective."""

from __future__ import annotations

from collections.abc import Sequence

from agr_core.config import TrialConfig
from orchestrator.spec.model import AshaSpec, NoScheduler, SearchSpec, SweepSpec
from orchestrator.spec.source import Source
from orchestrator.spec.space import Space

_MOST_POINTS = 1_000_000

_GAUSSIAN = ("gp", "branched_gp")

_MOST_GP_TRIALS = 200

_MANY_OBJECTIVES = 3


def complete_search(spec: SweepSpec, space: Space, source: Source) -> SweepSpec:
    """Return ``spec`` with the defaults of its search: grid, and the number of its configurations.

    A search that cannot search this space is noted in ``source``.
    """
    if ("seed",) in space.varied_paths():
        source.add(("space", "seed"), "the seed may not vary in `space`; use `repeat: {seeds: n}`.")
    size, search = space.size(), spec.search
    _refuse_unfit_objectives(spec, source)
    if search is not None and search.algorithm != "grid":
        if search.trials is None:
            source.add(("search", "trials"), f"missing; {search.algorithm} needs the number of configurations to try.")
        if search.algorithm == "gp":
            _refuse_unfit_for_gp(spec, space, source)
        if search.algorithm in _GAUSSIAN and (search.trials or 0) > _MOST_GP_TRIALS:
            source.add(
                ("search", "trials"),
                f"{search.trials} given, at most {_MOST_GP_TRIALS}: the time of a {search.algorithm} proposal grows "
                f"with the cube of the number of trials; use tpe for more.",
            )
        return spec
    if size is None:
        _refuse_continuous(search, space, source)
        return spec
    if size > _MOST_POINTS:
        message = f"the grid has {size:,} points, more than {_MOST_POINTS:,}; use search.algorithm: random."
        source.add(("space",), message)
        return spec
    if search is not None and search.trials not in (None, size):
        source.add(
            ("search", "trials"),
            f"{search.trials} given, but grid tries each of the {size} points once; leave trials out, or use random.",
        )
    seed, start = (0, ()) if search is None else (search.seed, search.start)
    return spec.model_copy(update={"search": SearchSpec(algorithm="grid", trials=size, seed=seed, start=start)})


def _refuse_unfit_objectives(spec: SweepSpec, source: Source) -> None:
    """Note settings that need a single objective, if there are several, and nsga2 without several."""
    search = spec.search
    if search is not None and search.population is not None and search.algorithm != "nsga2":
        source.add(("search", "population"), f"{search.algorithm} has no generations; leave it out, or use nsga2.")
    if search is not None and search.history and search.algorithm in ("random", "grid"):
        source.add(
            ("search", "history"), f"{search.algorithm} does not use earlier trials; leave history out, or use tpe."
        )
    if not isinstance(source.document.get("objective"), list):
        if search is not None and search.algorithm == "nsga2":
            source.add(("search", "algorithm"), "nsga2 needs several objectives, and there is one; use tpe.")
        return
    first: dict[str, int] = {}
    for index, objective in enumerate(spec.objectives):
        earlier = first.setdefault(objective.formula, index)
        if earlier != index:
            message = f"{objective.formula} is already objective {earlier + 1}."
            source.add(("objective", index), f"{message} Give each once.")
    sum_of_all = "or make one weighted sum of the objectives"
    if not isinstance(spec.scheduler, NoScheduler):
        source.add(
            ("scheduler",),
            f"{spec.scheduler.name} stops trials by one metric, and two trials with several objectives may be "
            f"incomparable; write scheduler: none, {sum_of_all}.",
        )
    if search is not None and search.algorithm in _GAUSSIAN:
        message = f"{search.algorithm} optimises one metric; use nsga2 or tpe, {sum_of_all}."
        source.add(("search", "algorithm"), message)
    if spec.confirm is not None:
        source.add(
            ("confirm",),
            "several objectives have no single winner to confirm; leave it out and retrain chosen trials of the front "
            f"with other seeds, as `variants` with `repeat`, {sum_of_all}.",
        )
    if spec.trainings > 1:
        source.add(
            ("repeat" if spec.folds is None else "folds",),
            "configurations are ranked by their mean, and several objectives have no single mean; give one objective "
            f"(every metric has its mean in `agr table`), {sum_of_all}.",
        )


def _refuse_unfit_for_gp(spec: SweepSpec, space: Space, source: Source) -> None:
    """Note branches and early stopping, which a Gaussian process over final values does not support."""
    where = ("search", "algorithm")
    top = [varied for varied in space.domains() if "[" not in varied.name]
    inner = next((varied for varied in space.domains() if varied not in top), None)
    if inner is not None:
        source.add(
            where,
            f"gp needs the same domains in every configuration, but {inner.name} is on one branch only; use tpe or "
            "branched_gp.",
        )
    if not isinstance(spec.scheduler, NoScheduler):
        source.add(
            where,
            f"gp learns from trials that trained to their end, and scheduler {spec.scheduler.name} stops most of them "
            "early; write scheduler: none, or use tpe or branched_gp.",
        )


def _refuse_continuous(search: SearchSpec | None, space: Space, source: Source) -> None:
    for varied in space.domains():
        if varied.domain.size is None:
            if search is None:
                source.add(
                    ("search",),
                    f"missing; {varied.name} has infinitely many values, so give a search: "
                    "search: {algorithm: tpe, trials: 20}.",
                )
                return
            source.add(
                varied.origin,
                f"grid cannot try every value of {varied.domain.describe()}; give it a step, list the values, "
                "or use search.algorithm: random or tpe.",
            )


def search_warnings(spec: SweepSpec, space: Space) -> list[str]:
    """Return warnings about valid but probably unintended settings."""
    warnings = []
    size = space.size()
    if spec.search is not None and size is not None and spec.search.trials is not None and spec.search.trials > size:
        warnings.append(
            f"search.trials is {spec.search.trials}, but the space has {size} points: some will be trained again; "
            "search.algorithm: grid tries each once."
        )
    if spec.confirm is not None and spec.search is not None and spec.confirm.top > (spec.search.trials or 0):
        warnings.append(
            f"confirm.top is {spec.confirm.top}, but the search has {spec.search.trials} configurations: all that "
            "complete will be confirmed."
        )
    if len(spec.objectives) > _MANY_OBJECTIVES:
        warnings.append(
            f"there are {len(spec.objectives)} objectives: with more than {_MANY_OBJECTIVES} few trials dominate "
            "others, and nearly all are in the front; combine some in a weighted sum."
        )
    return warnings


def scheduler_warnings(spec: SweepSpec, configs: Sequence[TrialConfig]) -> list[str]:
    """Warn about early stopping that stops no trial, or the wrong ones."""
    if isinstance(spec.scheduler, NoScheduler):
        return []
    max_epochs = max(config.schedule.epochs for config in configs)
    if spec.scheduler.grace_epochs >= max_epochs:
        return [
            f"scheduler.grace_epochs is {spec.scheduler.grace_epochs}, but no trial trains more than {max_epochs} "
            "epochs: no trial is stopped early; lower it, or write scheduler: none."
        ]
    encodings = sorted({config.age.encoding for config in configs if "age" in config.tasks})
    # Hyperband's later brackets leave this rung out; measured in docs/search.md.
    if isinstance(spec.scheduler, AshaSpec) and spec.scheduler.grace_epochs == 1 and len(encodings) > 1:
        return [
            f"scheduler.grace_epochs is 1, and age.encoding varies ({', '.join(encodings)}): after one epoch, "
            "encodings are not comparable, and slow starters that end best are stopped; write grace_epochs: 2 or more."
        ]
    return []
