"""The processes that train a trial against the resources of the sweep."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.spec.model import ResourcesSpec
from orchestrator.spec.source import Source
from orchestrator.spec.space import Proposal


def refuse_unfit_processes(resources: ResourcesSpec, proposals: Sequence[Proposal], source: Source) -> None:
    """Note processes that are not the same in all trials, or are not one a GPU.

    Args:
        resources: What one trial takes of a node.
        proposals: Configurations of the sweep, with every value of every domain in one of them.
        source: Where problems are noted.
    """
    found = sorted({proposal.config.compute.processes for proposal in proposals})
    path = ("resources", "gpus") if "resources" in source.document else ()
    if len(found) > 1:
        source.add(
            path,
            f"compute.processes is {' and '.join(map(str, found))} in different trials: all trials of a sweep have the "
            "same resources and as many processes; use a sweep for each.",
        )
    elif found and found[0] > 1 and resources.gpus not in (0, found[0]):
        source.add(
            path,
            f"gpus={resources.gpus:g} for compute.processes={found[0]}: each process has a GPU of its own; give "
            f"gpus: {found[0]}, or 0 to train on CPUs.",
        )
    elif found == [1] and resources.gpus > 1:
        source.add(
            path,
            f"gpus={resources.gpus:g} for compute.processes=1: one process uses one GPU; leave compute.processes "
            "out to have one a GPU, or give gpus: 1.",
        )
