"""What a sweep would do, for people to look at before it runs."""

from __future__ import annotations

import random
from dataclasses import dataclass

from orchestrator.spec.load import Sweep
from orchestrator.spec.space import Proposal

_DRAWS = 10
"""Draws for each configuration of a sample: a small space gives the same one again and again."""


@dataclass(frozen=True)
class Rung:
    """An epoch at which trials are compared (the last: trained to the end), and how many reach it."""

    epochs: int
    trials: int


def rung_table(sweep: Sweep) -> tuple[Rung, ...]:
    """Rungs of the sweep's scheduler, and the end of training.

    The numbers of trials are ASHA's aim, one in ``reduction_factor`` going on; being asynchronous it lets some more
    through, those that come to a rung early.
    """
    assert sweep.spec.search is not None  # load_sweep fills it in
    trials = (sweep.spec.search.trials or 0) * (1 if sweep.spec.repeat is None else sweep.spec.repeat.seeds)
    rungs = []
    for epochs in (*sweep.spec.scheduler.rungs(sweep.max_epochs), sweep.max_epochs):
        rungs.append(Rung(epochs, trials))
        trials = max(1, trials // getattr(sweep.spec.scheduler, "reduction_factor", 1))
    return tuple(rungs)


def sample(sweep: Sweep, count: int) -> tuple[Proposal, ...]:
    """At most ``count`` different configurations drawn at random, the same ones each time."""
    generator = random.Random(0)  # noqa: S311 - a fixed sample
    drawn: list[Proposal] = []
    for _ in range(_DRAWS * count):
        proposal = sweep.space.build(lambda _, domain: domain.draw(generator))
        if proposal not in drawn:
            drawn.append(proposal)
        if len(drawn) == count:
            break
    return tuple(drawn)
