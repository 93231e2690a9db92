"""Load a sweep file from YAML; report all of its problems at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestrator.errors import SpecError
from orchestrator.spec.checks.check import check_configurations
from orchestrator.spec.checks.metrics_checks import direction_warnings, refuse_unfit_objective
from orchestrator.spec.checks.refusals import refuse_secrets, refuse_unbuilt
from orchestrator.spec.checks.resources_checks import refuse_unfit_budget, refuse_unfit_processes
from orchestrator.spec.checks.search_checks import complete_search, scheduler_warnings, search_warnings
from orchestrator.spec.explain import explain, given
from orchestrator.spec.folds import refuse_unfit_folds
from orchestrator.spec.layers import EXTENDS, PROFILES, apply_profile, read_layers
from orchestrator.spec.merge import Node, merge, read
from orchestrator.spec.model import SweepSpec
from orchestrator.spec.overrides import apply_overrides, refuse_ineffective
from orchestrator.spec.parse import parse_space
from orchestrator.spec.source import Source, from_document
from orchestrator.spec.space import Space
from orchestrator.spec.stages import check_stages
from orchestrator.spec.start import Point, check_start
from orchestrator.spec.variants import variant_bases


@dataclass(frozen=True)
class Sweep:
    """A checked sweep.

    ``document`` is the file merged with its base files, ``profile`` and ``--set``, as plain JSON; loading it gives the
    same sweep. ``profiles`` are the labels that the file has.

    ``start`` are the points tried first, without those that ``search.start`` names by a trial's ID.

    ``spec.search`` is always set, with the number of configurations; ``max_epochs`` is the largest number of epochs of
    any of them.
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
    """Load the sweep of a YAML file under one of its profiles, after ``overrides`` such as ``path.from.root=value``.

    Raises:
        InputError: If the file cannot be read.
        SpecError: With every problem found.
    """
    source, profiles = apply_profile(read_layers(path), profile)
    apply_overrides(source, overrides)
    return replace(_check(source), profile=profile, profiles=profiles)


def sweep_from_document(document: Mapping[str, Any], *, overrides: Sequence[str] = ()) -> Sweep:
    """Load the sweep of ``Sweep.document``, on resume and re-run, after ``overrides`` as in ``load_sweep``.

    Raises:
        SpecError: With every problem found.
    """
    source = from_document(dict(document), file="the sweep's document")
    for layer in (EXTENDS, PROFILES):
        if layer in document:
            source.add((layer,), "a complete document has no layers; give the file that has them.")
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
    if not check_stages(source):
        raise SpecError(source.file, source.problems)
    spec = _spec(document, source)
    trial = _trial(spec)
    space = Space(variant_bases(spec.variants, trial, source), parse_space(spec.space, ("space",), source))
    refuse_ineffective(source, space)
    checked = check_configurations(trial, space, source)
    proposals = checked.proposals
    refuse_unfit_processes(spec.resources, proposals, source)
    refuse_unfit_budget(spec, source)
    refuse_unfit_folds(spec, space, proposals, source)
    spec = complete_search(spec, space, source)
    refuse_unfit_objective(spec, proposals, source)
    start = () if source.problems else check_start(spec, space, source)
    if source.problems:
        raise SpecError(source.file, source.problems)
    configs = [proposal.config for proposal in proposals]
    max_epochs = max(config.schedule.epochs for config in configs)
    warnings = (
        *checked.warnings,
        *search_warnings(spec, space),
        *scheduler_warnings(spec, configs),
        *direction_warnings(spec, proposals),
    )
    return Sweep(spec, document, space, max_epochs, warnings, start)


_STAND_INS = {"name": "unnamed", "objective": {"metric": "val/loss", "direction": "minimize"}}
"""Substitutes for invalid required fields, so that the rest can be checked."""


def _spec(document: Mapping[str, Any], source: Source) -> SweepSpec:
    """Return the spec of ``document`` without its invalid fields, which are noted once."""
    try:
        return SweepSpec.model_validate_json(json.dumps(document))
    except ValidationError as error:
        explained = explain(error, SweepSpec)
    paths = [
        problem.about[0] if problem.about and problem.about[0][0] in document else problem.path for problem in explained
    ]
    if not all(paths):  # a problem of the whole document, so that no part can be left out
        for path, problem in zip(paths, explained, strict=True):
            source.add(path, problem.message)
        raise SpecError(source.file, source.problems)
    for path, problem in zip(paths, explained, strict=True):
        source.add(path, problem.message, key=problem.at_key)
    sound = dict(document)
    for path in paths:
        if path[0] == "variants" and len(path) > 1:  # one invalid variant hides no other
            sound["variants"] = {key: value for key, value in sound["variants"].items() if key != path[1]}
        else:
            source.settle(path[:1])
            sound.pop(str(path[0]), None)
    return _spec(_STAND_INS | sound, source)


def _trial(spec: SweepSpec) -> Node:
    """Return the fixed part over the defaults from the sweep's resources."""
    resources, given_compute = spec.resources, spec.trial.get("compute")
    processes = given_compute.get("processes") if isinstance(given_compute, dict) else None
    if not isinstance(processes, int) or processes < 1:
        processes = resources.processes  # not a number: refused as part of the configuration
    implied = {"threads": Node(resources.threads(processes), ("resources", "cpus"))}
    if processes > 1:
        implied["processes"] = Node(processes, ("resources", "gpus"))
    compute = Node(implied, ("trial", "compute"))
    return merge(Node({"compute": compute}, ("trial",)), read(spec.trial, ("trial",)))
