"""Loading a sweep file: from YAML to what the driver runs, or to every problem of the file at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestrator.errors import SpecError
from orchestrator.spec.check import check_configurations
from orchestrator.spec.explain import explain, given
from orchestrator.spec.layers import EXTENDS, PROFILES, apply_profile, read_layers
from orchestrator.spec.merge import Node, merge, read
from orchestrator.spec.metrics_checks import direction_warnings, refuse_unfit_objective
from orchestrator.spec.model import SweepSpec
from orchestrator.spec.overrides import apply_overrides, refuse_ineffective
from orchestrator.spec.parse import parse_space
from orchestrator.spec.refusals import refuse_secrets, refuse_unbuilt
from orchestrator.spec.resources_checks import refuse_unfit_processes
from orchestrator.spec.search_checks import complete_search, scheduler_warnings, search_warnings
from orchestrator.spec.source import Source, from_document
from orchestrator.spec.space import Space
from orchestrator.spec.stages import check_stages
from orchestrator.spec.start import Point, check_start
from orchestrator.spec.variants import variant_bases


@dataclass(frozen=True)
class Sweep:
    """A checked sweep.

    ``document`` is the file over what it extends, under ``profile`` and after ``--set``: plain JSON, from which the
    same sweep comes again. ``profiles`` are the labels that the file has.

    ``start`` are the points tried first, without those that ``search.start`` names by a trial's ID.

    ``spec.search`` is always there and says how many configurations there will be; ``max_epochs`` is the most that any
    of them may train.
    """

    spec: SweepSpec
    document: dict[str, Any]
    space: Space
    max_epochs: int
    warnings: tuple[str, ...]
    start: tuple[Point, ...] = ()
    profile: str | None = None
    profiles: tuple[str, ...] = ()


def load_sweep(path: Path, *, profile: str | None = None, overrides: Sequence[str] = ()) -> Sweep:
    """The sweep of a YAML file under one of its profiles, after ``overrides`` such as ``path.from.the.root=value``.

    Raises:
        InputError: If the file cannot be read.
        SpecError: With every problem found.
    """
    source, profiles = apply_profile(read_layers(path), profile)
    apply_overrides(source, overrides)
    return replace(_check(source), profile=profile, profiles=profiles)


def sweep_from_document(document: Mapping[str, Any], *, overrides: Sequence[str] = ()) -> Sweep:
    """The sweep of ``Sweep.document``, on resume and re-run, after ``overrides`` as in ``load_sweep``.

    Raises:
        SpecError: With every problem found.
    """
    source = from_document(dict(document), file="the sweep's document")
    for layer in (EXTENDS, PROFILES):
        if layer in document:
            source.add((layer,), "a document of its own has no layers; give the file that has them.")
            source.settle((layer,))
    apply_overrides(source, overrides)
    return _check(source)


def _check(source: Source) -> Sweep:
    document = source.document
    if not isinstance(document, dict):
        shown = "nothing" if document is None else given(document)
        source.add((), f"{shown} given; a sweep file is a mapping, which begins with `name: ...`.")
        raise SpecError(source.file, source.problems)
    refuse_secrets(source)
    refuse_unbuilt(source)
    noted = len(source.problems)
    check_stages(source)
    if len(source.problems) > noted:  # no configuration can be put together of such stages
        raise SpecError(source.file, source.problems)
    spec = _spec(document, source)
    trial = _trial(spec)
    space = Space(variant_bases(spec.variants, trial, source), parse_space(spec.space, ("space",), source))
    refuse_ineffective(source, space)
    proposals = check_configurations(trial, space, source)
    refuse_unfit_processes(spec.resources, proposals, source)
    spec = complete_search(spec, space, source)
    refuse_unfit_objective(spec, proposals, source)
    start = () if source.problems else check_start(spec, space, source)
    if source.problems:
        raise SpecError(source.file, source.problems)
    configs = [proposal.config for proposal in proposals]
    max_epochs = max(config.schedule.epochs for config in configs)
    warnings = (
        *search_warnings(spec, space),
        *scheduler_warnings(spec, configs),
        *direction_warnings(spec, proposals),
    )
    return Sweep(spec, document, space, max_epochs, warnings, start)


_STAND_INS = {"name": "unnamed", "objective": {"metric": "val/loss", "direction": "minimize"}}
"""For required fields that are broken, so that the rest can be checked."""


def _spec(document: Mapping[str, Any], source: Source) -> SweepSpec:
    """The spec of ``document`` without its broken fields, which are noted and of which no more is said."""
    try:
        return SweepSpec.model_validate_json(json.dumps(document))
    except ValidationError as error:
        explained = explain(error, SweepSpec)
    paths = [each.about[0] if each.about and each.about[0][0] in document else each.path for each in explained]
    for path, each in zip(paths, explained, strict=True):
        source.add(path, each.message, key=each.at_key)
    sound = dict(document)
    for path in paths:
        if path[0] == "variants" and len(path) > 1:  # one broken variant hides no other
            sound["variants"] = {key: value for key, value in sound["variants"].items() if key != path[1]}
        else:
            source.settle(path[:1])
            sound.pop(str(path[0]), None)
    return _spec(_STAND_INS | sound, source)


def _trial(spec: SweepSpec) -> Node:
    """The fixed part, over what the sweep's resources imply."""
    resources, given_compute = spec.resources, spec.trial.get("compute")
    processes = given_compute.get("processes") if isinstance(given_compute, dict) else None
    if not isinstance(processes, int) or processes < 1:
        processes = resources.processes  # what is given is no number: it is refused as part of the configuration
    implied = {"threads": Node(resources.threads(processes), ("resources", "cpus"))}
    if processes > 1:
        implied["processes"] = Node(processes, ("resources", "gpus"))
    compute = Node(implied, ("trial", "compute"))
    return merge(Node({"compute": compute}, ("trial",)), read(spec.trial, ("trial",)))
