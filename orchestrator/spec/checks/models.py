"""Build the models of a sweep on the meta device, before anything is started."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from agr_core.errors import ModelError
from agr_core.out_of_memory import is_out_of_memory
from orchestrator.errors import Problem, SpecError
from orchestrator.spec.checks.check import probed
from orchestrator.spec.space import Proposal, Space

_LOG = logging.getLogger(__name__)

MOST_MODELS = 100
"""Maximum number of different models built; an invalid one among the others fails its trial, once."""

_DECIDES = frozenset({"model", "head", "age", "tasks", "image", "init", "batch_size", "loss"})
"""Fields of TrialConfig that determine whether a model can be built and trained; of ``loss`` only the plug-in."""


def check_models(space: Space, *, file: str) -> int:
    """Build every choice and both ends of every range once, on torch's meta device.

    Args:
        space: The sweep's configurations.
        file: File name in the problems.

    Returns:
        The number of different models that were built. One for which this machine has too little memory is no problem
        of the sweep: a warning names it.

    Raises:
        SpecError: Naming every model that cannot be built, or cannot be trained on its images.
    """
    from agr_core.models.probe import check_model  # torch, and timm where a model is timm's
    from agr_core.models.refusals import reason_of

    problems: dict[str, Problem] = {}
    untried: dict[str, str] = {}
    built = 0
    for proposal in _different_models(space):
        if built == MOST_MODELS:
            break
        built += 1
        try:
            check_model(proposal.config)
        except ModelError as error:
            problems.setdefault(str(error), Problem(line=0, column=0, path="", message=_message(error, proposal)))
        except (MemoryError, RuntimeError, OSError) as error:
            if not is_out_of_memory(error):
                raise
            built -= 1
            untried[proposal.config.model.name] = reason_of(error)
    if untried:
        _LOG.warning(
            "%s: this machine has too little memory to try model %s (%s). The machines that train it may have more; "
            "`agr check` tries it there.",
            file,
            ", ".join(untried),
            next(iter(untried.values())),
        )
    if problems:
        raise SpecError(file, list(problems.values()))
    return built


def _message(error: ModelError, proposal: Proposal) -> str:
    shown = [f"{name}={value}" for name, value in proposal.params.items() if name.split(".")[0] in _DECIDES]
    shown = shown if proposal.variant is None else [f"variant={proposal.variant}", *shown]
    joined = ", ".join(shown)
    return f"{error}{f' (with {joined})' if shown else ''}"


def _different_models(space: Space) -> Iterator[Proposal]:
    seen: set[str] = set()
    for proposal in probed(space):
        config = proposal.config
        several = config.model_copy(update={"batch_size": min(config.batch_size, 2)})
        loss = config.loss.classification.model_dump_json()
        key = several.model_dump_json(include=set(_DECIDES - {"loss"})) + loss
        if key not in seen:
            seen.add(key)
            yield proposal
