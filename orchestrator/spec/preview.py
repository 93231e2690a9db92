"""Preview of a sweep before it runs: rungs, stages, sample configurations."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.spec.load import Sweep
from orchestrator.spec.space import Proposal

_DRAWS = 10
"""Maximum number of draws per sampled configuration; a small space repeats itself."""


@dataclass(frozen=True)
class Rung:
    """An epoch at which trials are compared (the last: end of training), and the number of trials that reach it."""

    epochs: int
    trials: int


def rung_table(sweep: Sweep) -> tuple[Rung, ...]:
    """Return the rungs of the sweep's scheduler, and the end of training.

    The numbers of trials are targets: in each bracket, one in ``reduction_factor`` continues. Asynchronous halving
    promotes some more, those that reach a rung early.
    """
    assert sweep.spec.search is not None  # set by load_sweep
    count = (sweep.spec.search.trials or 0) * sweep.spec.trainings
    factor = getattr(sweep.spec.scheduler, "reduction_factor", 1)
    brackets = sweep.spec.scheduler.brackets(sweep.max_epochs)
    rungs = sorted({epochs for bracket in brackets for epochs in (*bracket.rungs, sweep.max_epochs)})
    left = {r: sum(count * b.share / factor ** sum(rung < r for rung in b.rungs) for b in brackets) for r in rungs}
    return tuple(Rung(epochs, max(min(count, 1), int(trials + 1e-9))) for epochs, trials in left.items())


def stages(proposals: Iterable[Proposal]) -> tuple[str, ...]:
    """Return the different stage lists of some configurations: ``celeba (10 epochs) > the trial (20 epochs)``."""
    rows = {
        " > ".join(
            [
                *(f"{stage.id} ({stage.config.schedule.epochs} epochs)" for stage in proposal.config.stages),
                f"the trial ({proposal.config.schedule.epochs} epochs)",
            ]
        ): None
        for proposal in proposals
        if proposal.config.stages
    }
    return tuple(rows)


def sample(sweep: Sweep, count: int) -> tuple[Proposal, ...]:
    """Return at most ``count`` different random configurations, the same ones each time."""
    generator = random.Random(0)  # noqa: S311 - a fixed sample
    drawn: list[Proposal] = []
    for _ in range(_DRAWS * count):
        proposal = sweep.space.build(lambda _, domain: domain.draw(generator))
        if proposal not in drawn:
            drawn.append(proposal)
        if len(drawn) == count:
            break
    return tuple(drawn)
