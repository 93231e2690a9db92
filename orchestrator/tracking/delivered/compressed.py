"""The trials of a sweep in little memory: what is delivered is compressed, to a few hundred bytes a trial."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import ItemsView, Iterator, MutableMapping, ValuesView

from orchestrator.journal.sweep_state import TrialState


class CompressedTrials(MutableMapping[str, TrialState]):
    """Trials by ID, in order of creation. ``compress`` puts one away until somebody asks for it by its ID.

    ``values`` and ``items`` leave it compressed and yield a copy; a change to the copy is lost.
    """

    def __init__(self) -> None:
        self._trials: dict[str, TrialState | bytes] = {}
        self._like = b""  # the first of them: the others have most of its bytes

    def compress(self, trial_id: str) -> None:
        """Compress a trial.

        Raises:
            KeyError: If there is none of that ID.
        """
        trial = self._trials[trial_id]
        if isinstance(trial, bytes):
            return
        data = pickle.dumps(trial)
        self._like = self._like or data
        compressor = zlib.compressobj(zdict=self._like)
        self._trials[trial_id] = compressor.compress(data) + compressor.flush()

    def peek(self, trial_id: str) -> TrialState:
        """Return a trial; of a compressed one a copy.

        Raises:
            KeyError: If there is none of that ID.
        """
        trial = self._trials[trial_id]
        if not isinstance(trial, bytes):
            return trial
        data = zlib.decompressobj(zdict=self._like).decompress(trial)
        copy: TrialState = pickle.loads(data)  # noqa: S301 - these bytes never left this process
        return copy

    def __getitem__(self, trial_id: str) -> TrialState:
        trial = self._trials[trial_id] = self.peek(trial_id)
        return trial

    def __setitem__(self, trial_id: str, trial: TrialState) -> None:
        self._trials[trial_id] = trial

    def __delitem__(self, trial_id: str) -> None:
        del self._trials[trial_id]

    def __contains__(self, trial_id: object) -> bool:
        return trial_id in self._trials

    def __iter__(self) -> Iterator[str]:
        return iter(self._trials)

    def __len__(self) -> int:
        return len(self._trials)

    def values(self) -> ValuesView[TrialState]:
        """Return the trials, of compressed ones copies."""
        return _Values(self)

    def items(self) -> ItemsView[str, TrialState]:
        """Return IDs and trials, of compressed ones copies."""
        return _Items(self)


class _Values(ValuesView[TrialState]):
    _mapping: CompressedTrials

    def __iter__(self) -> Iterator[TrialState]:
        return (self._mapping.peek(trial_id) for trial_id in self._mapping)


class _Items(ItemsView[str, TrialState]):
    _mapping: CompressedTrials

    def __iter__(self) -> Iterator[tuple[str, TrialState]]:
        return ((trial_id, self._mapping.peek(trial_id)) for trial_id in self._mapping)
