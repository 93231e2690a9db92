"""Create the next trial of a sweep: proposals of its search, their repetitions, finally confirmations of the best."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agr_core.config import DataConfig, ModelConfig, TrialConfig
from agr_core.errors import InputError
from orchestrator.catalog.ids import trial_id as make_trial_id
from orchestrator.journal.events import DataRef, SplitAudited, StageRef, TrialCreated
from orchestrator.spec.folds import at_fold
from orchestrator.spec.start import point_of_entry
from orchestrator.sweep.decisions import Decisions
from orchestrator.sweep.live_state import Standing


@dataclass
class Proposals:
    """Source of the sweep's next trial; the caller journals it."""

    standing: Standing
    decisions: Decisions
    seeds: int
    """Number of trials of each configuration."""
    folds: int | None
    """Number of folds of each configuration, one per trial; None: trials differ in their seed."""
    concurrency: int | str | None
    """Maximum number of concurrent trials, or their share of the slots, from the sweep file."""
    prepare: Callable[[DataConfig], DataRef]
    prepare_weights: Callable[[ModelConfig], str | None]
    """Returns the SHA-256 of a model's initial weights; see ``orchestrator.assets.weights``."""
    clock: Callable[[], float]

    @property
    def over(self) -> bool:
        """Whether no further trial will be created."""
        if self.decisions.stop is not None or self.decisions.closed:
            return True
        if not self._exhausted or self.standing.steering.paused:
            return False
        if self.standing.confirmation is None:
            return True
        return not self._searching and self.standing.confirmation.next() is None

    @property
    def _searching(self) -> bool:
        """Whether a trial of the search still lives; the best are unknown until then."""
        return any(trial.created.confirms is None for trial in self.standing.live.values())

    @property
    def _exhausted(self) -> bool:
        return self._to_repeat is None and self.standing.search.exhausted(self.standing.next_configuration)

    @property
    def _to_repeat(self) -> TrialCreated | None:
        """The newest trial of the search, if its configuration lacks seeds."""
        last = self.standing.last_searched
        return last if last is not None and last.repeat + 1 < self.seeds else None

    def room(self, slots: int) -> int:
        """Return the maximum number of concurrent trials on ``slots`` slots, by the last command or the sweep file."""
        commanded = self.standing.steering.concurrency
        return trial_limit(slots, self.concurrency if commanded is None else commanded)

    def next(self, slots: int) -> TrialCreated | None:
        """Return a new trial; None if ``room(slots)`` trials live already, the sweep is paused, or nothing is left."""
        paused = self.standing.steering.paused
        if self.over or paused or len(self.standing.live) >= self.room(slots):
            return None
        if self._exhausted:
            return None if self._searching else self._next_confirmation()
        last = self._to_repeat
        if last is not None:
            changed = {} if self.folds is not None else {"seed": last.config["seed"] + 1}
            return self._create(
                self._at_fold(TrialConfig.from_document({**last.config, **changed}), last.repeat + 1),
                configuration=last.configuration,
                repeat=last.repeat + 1,
                variant=last.variant,
                params=last.params,
                proposal={},
            )
        search, configuration = self.standing.search, self.standing.next_configuration
        key, entry = next(iter(self.standing.steering.enqueued.items()), (None, None))
        suggestion = search.propose(configuration, None if entry is None else point_of_entry(search.space, entry))
        proposal = suggestion.proposal
        return self._create(
            self._at_fold(proposal.config, 0),
            configuration=configuration,
            enqueued=key,
            variant=proposal.variant,
            params=proposal.params,
            proposal=suggestion.record,
        )

    def _at_fold(self, config: TrialConfig, fold: int) -> TrialConfig:
        return config if self.folds is None else at_fold(config, fold, folds=self.folds)

    def _next_confirmation(self) -> TrialCreated | None:
        """Return a trial of one of the search's best configurations with a fresh seed."""
        following = None if self.standing.confirmation is None else self.standing.confirmation.next()
        if following is None:
            return None
        original, repeat, seed = following
        return self._create(
            TrialConfig.from_document({**original.config, "seed": seed}),
            configuration=original.configuration,
            repeat=repeat,
            variant=original.variant,
            params=original.params,
            proposal={},
            confirms=original.trial_id,
        )

    def _create(self, config: TrialConfig, **which: Any) -> TrialCreated:
        """Create a trial of ``config``; ``which`` are the fields for its origin."""
        number = self.standing.next_number
        stages = self.prepare_stages(config)
        data = self.prepare(config.data)
        weights = None if stages else self.prepare_weights(config.model)
        return TrialCreated(
            time=self.clock(),
            trial_id=make_trial_id(self.standing.started.sweep_id, number),
            number=number,
            config=config.to_document(),
            config_digest=config.digest(
                data_digest=data.data_digest,
                split_digest=data.split_digest,
                weights_sha256=stages[-1].key if stages else weights,
            ),
            data_digest=data.data_digest,
            split_digest=data.split_digest,
            data_uri=data.data_uri,
            weights_sha256=weights,
            stages=stages,
            **which,
        )

    def prepare_stages(self, config: TrialConfig) -> tuple[StageRef, ...]:
        """Return data and key of each stage that a trial starts from, in order."""
        refs: list[StageRef] = []
        for stage in config.stages:
            data = self.prepare(stage.config.data)
            weights = None if refs else self.prepare_weights(stage.config.model)
            key = stage.key(
                data_digest=data.data_digest,
                split_digest=data.split_digest,
                weights_sha256=refs[-1].key if refs else weights,
            )
            refs.append(
                StageRef(
                    id=stage.id,
                    key=key,
                    data_uri=data.data_uri,
                    data_digest=data.data_digest,
                    split_digest=data.split_digest,
                    weights_sha256=weights,
                )
            )
        return tuple(refs)


def trial_limit(slots: int, concurrency: int | str | None) -> int:
    """Return the maximum number of concurrent trials: a number, a share such as ``50%`` (at least one), or all."""
    if concurrency is None:
        return slots
    if isinstance(concurrency, int):
        return min(slots, concurrency)
    return min(slots, max(1, math.floor(slots * share_of_slots(concurrency))))


def share_of_slots(text: str) -> float:
    """Parse a share such as ``50%``, above 0 and at most 1.

    Raises:
        InputError: If it is none.
    """
    number = text.strip().removesuffix("%")
    try:
        share = float(number) / 100 if text.strip().endswith("%") else math.nan
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise InputError(f"concurrency={text!r}: give a number of trials, such as 4, or a share of the slots, as 50%.")
    return share


def audit_of(
    standing: Standing, audit: Callable[[DataRef], tuple[int, int]] | None, ref: DataRef, *, time: float
) -> SplitAudited | None:
    """Return the audit of a split that is new to the sweep; None for a known split, or without an audit.

    Raises:
        InputError: If it leaks and the sweep is strict.
    """
    if audit is None or ref.split_digest in standing.audited:
        return None
    leaks, conflicts = audit(ref.data)
    return SplitAudited(
        time=time, data_digest=ref.data_digest, split_digest=ref.split_digest, leaks=leaks, conflicts=conflicts
    )
