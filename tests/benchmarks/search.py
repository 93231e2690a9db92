"""How soon is the best found? Recorded learning curves replayed through the search and the scheduler of a real sweep.

    python tests/benchmarks/search.py [--seeds 500-559] [--workers 4] [--syne-tune PYTHON] [-o FOLDER]

Against random search without stopping, Optuna's TPE with its own pruners, Ray's OptunaSearch with its ASHA, and, with
the Python of an environment that has syne-tune, Syne Tune's ASHA. The question: after how many epochs is the median of
random search's best of 60 full trials reached? Prints a table; writes it and a picture to FOLDER. docs/search.md says
what the curves are, what came out, and what did not help. Exit code 0: this project needs at most a quarter of random
search's epochs, in the median, and nobody else needs less beyond chance; 1: not so.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
warnings.filterwarnings("ignore")

import measured  # noqa: E402
import numpy as np  # noqa: E402
import optuna  # noqa: E402
from measured import Figure  # noqa: E402
from optuna.pruners import HyperbandPruner, NopPruner, SuccessiveHalvingPruner  # noqa: E402
from optuna.samplers import TPESampler  # noqa: E402
from ray.tune.schedulers import ASHAScheduler  # noqa: E402
from replay.figures import Summary, draw, markdown, verdict  # noqa: E402
from replay.others import Optuna, RayTune, SyneTune  # noqa: E402
from replay.ours import Ours  # noqa: E402
from replay.table import Curves, columns  # noqa: E402
from replay.workers import Contender, simulate  # noqa: E402

from orchestrator.spec.load import Sweep, load_sweep  # noqa: E402
from orchestrator.spec.space import Domain  # noqa: E402

HERE = Path(__file__).parent
TRIALS = 60
"""Full trials of random search whose best is to be reached."""

GOAL = 0.25
"""So much of random search's epochs may be needed, in the median."""

SHARE = 0.5
"""So much of random search's epochs the others are given."""

GRACE, FACTOR = 3, 3
"""First rung, epochs, and reduction factor of everybody who says nothing else; as in ``replay.yaml``."""

RANDOM = "random, no stopping"
OURS = "agr: branched_gp + asha"

Make = Callable[[int], AbstractContextManager[Contender]]
"""A contender, of a seed."""


def contenders(workers: int, syne_tune: Path | None, epochs: int) -> dict[str, Make]:
    """All of them by name, this project first."""

    def ours(*overrides: str) -> Make:
        return lambda seed: Ours(_sweep(*overrides, f"search.seed={seed}"), workers=workers)

    def optuna_with(pruner: Callable[[], optuna.pruners.BasePruner], **options: Any) -> Make:
        def make(seed: int) -> AbstractContextManager[Contender]:
            return nullcontext(Optuna(_sweep().space, sampler=TPESampler(seed=seed, **options), pruner=pruner()))

        return make

    def ray_tune(**options: Any) -> Make:
        def make(seed: int) -> AbstractContextManager[Contender]:
            asha = ASHAScheduler(metric="value", mode="min", max_t=epochs, **options)
            return nullcontext(RayTune(_sweep().space, seed=seed, scheduler=asha))

        return make

    every: dict[str, Make] = {
        OURS: ours("search.algorithm=branched_gp", "search.trials=200"),
        "agr: tpe + asha": ours(),
        RANDOM: ours("search.algorithm=random", "scheduler=none"),
        "agr: tpe + asha, first rung after 1 epoch": ours("scheduler.grace_epochs=1"),
        "agr: tpe + asha, factor 2": ours("scheduler.reduction_factor=2"),
        "agr: tpe + hyperband": ours("scheduler.name=hyperband"),
        "agr: random + asha": ours("search.algorithm=random"),
        "Optuna: TPE, no pruner": optuna_with(NopPruner),
        "Optuna: TPE + SuccessiveHalvingPruner": optuna_with(
            lambda: SuccessiveHalvingPruner(min_resource=GRACE, reduction_factor=FACTOR)
        ),
        "Optuna: TPE + HyperbandPruner": optuna_with(
            lambda: HyperbandPruner(min_resource=GRACE, max_resource=epochs, reduction_factor=FACTOR)
        ),
        "Ray: OptunaSearch + ASHA": ray_tune(grace_period=GRACE, reduction_factor=FACTOR),
        "Ray: OptunaSearch + ASHA, factor 2": ray_tune(grace_period=GRACE, reduction_factor=2),
        "Ray: OptunaSearch + ASHA, its default rungs": ray_tune(),
    }
    if syne_tune is not None:
        every["Syne Tune: ASHA"] = lambda seed: SyneTune(
            _sweep().space, python=syne_tune, seed=seed, epochs=epochs, grace=GRACE, factor=FACTOR
        )
    return every


@functools.cache
def _sweep(*overrides: str) -> Sweep:
    return load_sweep(HERE / "replay.yaml", overrides=overrides)


@functools.cache
def _curves() -> Curves:
    return Curves()


def trace(job: tuple[str, int, int, Path | None, int]) -> list[float]:
    """The best value after each epoch: name of the contender, seed, workers, Syne Tune's Python, epochs."""
    name, seed, workers, syne_tune, epochs = job
    warnings.filterwarnings("ignore")
    epochs = round(epochs * (1.0 if name == RANDOM else SHARE))
    with contenders(workers, syne_tune, _curves().epochs)[name](seed) as contender:
        return simulate(contender, _curves(), workers=workers, epochs=epochs)


def run(
    seeds: range, *, workers: int, syne_tune: Path | None = None, only: tuple[str, ...] = (), processes: int = 2
) -> Iterator[tuple[str, list[list[float]]]]:
    """Every contender, or ``only`` those: its name and, for each seed, the best value after each epoch."""
    epochs = TRIALS * _curves().epochs
    names = only or tuple(contenders(workers, syne_tune, epochs))
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for name in names:
            yield name, pool.map(trace, [(name, seed, workers, syne_tune, epochs) for seed in seeds], chunksize=1)


def best_of_random(curves: Curves, *, draws: int = 60_000) -> float:
    """The value that the best of ``TRIALS`` random trials reaches half of the time.

    It is the quantile of the values of random configurations of which ``TRIALS`` are all above it with probability one
    half. Forty replays of random search would know it to a tenth of a year only, and its noise would be everybody's.
    """
    random = np.random.default_rng(0)

    def choose(_: str, domain: Domain) -> Any:
        if domain.kind == "categorical":
            return domain.choices[random.integers(len(domain.choices))]
        if domain.kind == "int":
            return int(random.integers(int(domain.low), int(domain.high) + 1))
        return float(np.exp(random.uniform(np.log(domain.low), np.log(domain.high))))  # all are logarithmic

    space = _sweep().space
    found = [curves.at(columns(space.assemble(choose).node.plain())) for _ in range(draws)]
    values = [min(curve.values, default=np.inf) for curve in found]
    return float(np.quantile(values, 1 - 0.5 ** (1 / TRIALS), method="higher"))


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def main() -> None:
    """Replay all, print and write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=_seeds, default=range(500, 560), help="such as 500-559")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--syne-tune", type=Path, metavar="PYTHON", help="Python of an environment with syne-tune")
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER")
    arguments = measured.parse(parser, tiny={"seeds": range(500, 502), "workers": 2, "output": None})
    curves = _curves()
    print(f"{curves.count} recorded curves of {curves.epochs} epochs; {arguments.workers} simulated workers; ", end="")
    print(f"seeds {arguments.seeds[0]} to {arguments.seeds[-1]}", flush=True)
    if arguments.syne_tune is None:
        print("Syne Tune is left out: --syne-tune PYTHON names an environment that has it.", flush=True)
    only = (RANDOM, OURS) if arguments.tiny else ()
    traces: dict[str, list[list[float]]] = {}
    for name, of_seeds in run(arguments.seeds, workers=arguments.workers, syne_tune=arguments.syne_tune, only=only):
        traces[name] = of_seeds
        print(f"  {name}: done", flush=True)
        if arguments.output is not None:
            arguments.output.mkdir(parents=True, exist_ok=True)
            (arguments.output / "search.json").write_text(json.dumps(traces))
    goal = best_of_random(curves, draws=2_000 if arguments.tiny else 60_000)
    summary = Summary.of(traces, goal=goal, epochs=TRIALS * curves.epochs)
    print(markdown(summary))
    if arguments.output is not None:
        (arguments.output / "search.md").write_text(markdown(summary) + "\n")
        draw(summary, arguments.output / "search.png")
    missed = verdict(summary, OURS, share=GOAL, random=RANDOM)
    print(
        "\n".join(missed) or f"The goal is met: {OURS} needs at most {GOAL:g} of it, and is behind none of the others."
    )
    median = summary.quartiles(OURS)[1]
    behind = sum(summary.ahead(OURS, other)[0] < 0 for other in traces if other not in (OURS, RANDOM))
    figures = [
        Figure(name="epochs to the goal, of random's", value=median / summary.epochs, unit="", at_most=GOAL),
        Figure(name="ahead of us, on average", value=behind, unit="methods"),
    ]
    code = measured.report(figures, arguments)
    sys.exit(1 if missed and not arguments.tiny else code)


if __name__ == "__main__":
    main()
