"""Check the processes of a trial against the resources of the sweep."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.spec.model import ResourcesSpec, SweepSpec
from orchestrator.spec.source import Source
from orchestrator.spec.space import Proposal


def refuse_unfit_budget(spec: SweepSpec, source: Source) -> None:
    """Note a budget of GPU-hours for trials that hold no GPU: it would never end the sweep."""
    if spec.budget.gpu_hours is not None and not spec.resources.gpus:
        source.add(
            ("budget", "gpu_hours"),
            f"{spec.budget.gpu_hours:g} given, but resources.gpus is 0, so trials hold no GPU and the budget would "
            "never be reached; set resources.gpus, or limit wall or usd.",
        )


def refuse_unfit_processes(resources: ResourcesSpec, proposals: Sequence[Proposal], source: Source) -> None:
    """Note numbers of processes that differ between trials, or from the number of GPUs.

    Args:
        resources: Node resources of one trial.
        proposals: Configurations of the sweep, with every value of every domain in one of them.
        source: Where problems are noted.
    """
    counts = sorted({proposal.config.compute.processes for proposal in proposals})
    path = ("resources", "gpus") if "resources" in source.document else ()
    if len(counts) > 1:
        source.add(
            path,
            f"compute.processes is {' and '.join(map(str, counts))} in different trials: all trials of a sweep have "
            "the same resources and number of processes; use one sweep for each number.",
        )
    elif counts and counts[0] > 1 and resources.gpus not in (0, counts[0]):
        source.add(
            path,
            f"gpus={resources.gpus:g} for compute.processes={counts[0]}: each process needs its own GPU; give "
            f"gpus: {counts[0]}, or 0 to train on CPUs.",
        )
    elif counts == [1] and resources.gpus > 1:
        source.add(
            path,
            f"gpus={resources.gpus:g} for compute.processes=1: one process uses one GPU; leave compute.processes "
            "out for one process per GPU, or give gpus: 1.",
        )
