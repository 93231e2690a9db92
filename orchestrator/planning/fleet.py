"""Fleet of rented machines, parsed from ``--nodes 2x4:RTX_4090@0.40``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from agr_core.errors import InputError
from orchestrator.ray_tune.needs import fitting
from orchestrator.spec.model import ResourcesSpec

_NODES = re.compile(r"(?P<count>[0-9]+)x(?P<gpus>[0-9]+)(:(?P<label>[A-Za-z0-9_.-]+))?(@(?P<price>[0-9]*\.?[0-9]+))?")

CPU_LABEL = re.compile(r"cpu(?P<cores>[0-9]+)")
"""Label of a machine with its number of cores: ``cpu8``."""

_CORES_A_GPU = 8
"""Assumed number of CPU cores for each GPU of a machine."""


@dataclass(frozen=True)
class Nodes:
    """Number of machines of one kind."""

    count: int
    gpus: int
    label: str
    usd_per_hour: float
    """Price of one machine."""

    @classmethod
    def parse(cls, text: str) -> Nodes:
        """Parse ``COUNTxGPUS[:LABEL][@USD]``; GPUS 0 with label ``cpu8`` is a machine of eight cores without a GPU.

        Raises:
            InputError: If the text has another form.
        """
        match = _NODES.fullmatch(text.strip())
        if match is None or int(match["count"]) == 0:
            raise InputError(
                f"--nodes {text!r}: write COUNTxGPUS:LABEL@USD, as 2x4:RTX_4090@0.40 for two machines of four GPUs at "
                "0.40 dollars an hour each, or 1x0:cpu8@0.10 for one of eight cores."
            )
        return cls(int(match["count"]), int(match["gpus"]), match["label"] or "", float(match["price"] or 0.0))

    @property
    def cores(self) -> int:
        """Number of CPU cores of one machine."""
        match = CPU_LABEL.fullmatch(self.label)
        return int(match["cores"]) if match is not None else _CORES_A_GPU * max(1, self.gpus)

    def slots(self, resources: ResourcesSpec) -> int:
        """Return the number of concurrent trials of one machine."""
        trial = {name: amount for name, amount in (("CPU", resources.cpus), ("GPU", resources.gpus)) if amount}
        return fitting(trial, {"CPU": float(self.cores), "GPU": float(self.gpus)})

    def times(self, count: int) -> Nodes:
        """Return ``count`` machines of this kind."""
        return Nodes(count, self.gpus, self.label, self.usd_per_hour)

    def __str__(self) -> str:
        usd = self.usd_per_hour
        price = f"@{usd:.2f}" if usd and round(usd, 2) == usd else f"@{usd:g}" if usd else ""
        return f"{self.count}x{self.gpus}{f':{self.label}' if self.label else ''}{price}"


def slots_of(fleet: Sequence[Nodes], resources: ResourcesSpec) -> list[int]:
    """Return the number of concurrent trials of each machine of a fleet.

    Raises:
        InputError: If no machine fits a trial.
    """
    slots = [nodes.slots(resources) for nodes in fleet for _ in range(nodes.count)]
    if not any(slots):
        has = ", ".join(f"{nodes.label or nodes} has {nodes.cores} cores and {nodes.gpus} GPUs" for nodes in fleet)
        raise InputError(
            f"no trial fits on these nodes: it takes {resources.cpus:g} cores and {resources.gpus:g} GPUs (resources "
            f"in the file), and {has}. Give larger nodes, or lower resources."
        )
    return slots
