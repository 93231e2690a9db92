"""What a sweep trains next: proposals of its search, their repetitions, at the end the confirmations of the best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from agr_core.config import DataConfig, ModelConfig, TrialConfig
from orchestrator.ids import trial_id as make_trial_id
from orchestrator.records import StageRef, TrialCreated
from orchestrator.standing import Standing


class DataRef(Protocol):
    """Where a trial's data lies, by content; see ``orchestrator.datasets``."""

    @property
    def data_uri(self) -> str: ...  # noqa: D102
    @property
    def data_digest(self) -> str: ...  # noqa: D102
    @property
    def split_digest(self) -> str: ...  # noqa: D102


@dataclass
class Proposals:
    """Makes the sweep's next trial; whoever asks journals it."""

    standing: Standing
    seeds: int
    """Trials of each configuration."""
    concurrency: int | None
    prepare: Callable[[DataConfig], DataRef]
    prepare_weights: Callable[[ModelConfig], str | None]
    """SHA-256 of the file of weights that a model starts from; see ``orchestrator.weights``."""
    clock: Callable[[], float]

    @property
    def over(self) -> bool:
        """Whether no further trial will be created."""
        if self.standing.stop is not None or not self._exhausted:
            return self.standing.stop is not None
        if self.standing.confirmation is None:
            return True
        return not self._searching and self.standing.confirmation.next() is None

    @property
    def _searching(self) -> bool:
        """Whether a trial of the search still lives: the best of them are not known before."""
        return any(trial.created.confirms is None for trial in self.standing.live.values())

    @property
    def _exhausted(self) -> bool:
        return self.standing.search.exhausted(self.standing.next_number // self.seeds)

    def next(self, slots: int) -> TrialCreated | None:
        """A new trial, unless ``slots`` (or ``concurrency``) trials live already or nothing is left to propose."""
        limit = slots if self.concurrency is None else min(slots, self.concurrency)
        if self.over or len(self.standing.live) >= limit:
            return None
        if self._exhausted:
            return None if self._searching else self._next_confirmation()
        number = self.standing.next_number
        configuration, repeat = divmod(number, self.seeds)
        if repeat == 0:
            suggestion = self.standing.search.propose(configuration)
            proposal, record = suggestion.proposal, suggestion.record
            config, params, variant = proposal.config, proposal.params, proposal.variant
        else:
            first = self.standing.last_created
            assert first is not None, "the first repetition comes first"
            params, variant, record = first.params, first.variant, {}
            document = {**first.config, "seed": first.config["seed"] - first.repeat + repeat}
            config = TrialConfig.from_document(document)
        return self._create(
            config, configuration=configuration, repeat=repeat, variant=variant, params=params, proposal=record
        )

    def _next_confirmation(self) -> TrialCreated | None:
        """A trial of one of the search's best configurations with a seed that the search did not use."""
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
        """A trial of ``config``; ``which`` are the fields that say where it comes from."""
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
        """Data and key of each stage that a trial starts from, the first one first."""
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
