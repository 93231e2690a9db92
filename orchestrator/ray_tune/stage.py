"""A stage before a trial: its best weights, trained once by whoever needs them first, then shared by the storage.

The weights lie among the others, by their SHA-256; ``stages/<key>/done.json`` says which they are. Before a worker
trains a stage it claims it, by an object that only one can create; it writes that object again every few seconds, and
others wait. A claim that falls silent is of a dead worker: another worker makes the next claim and goes on from the
newest checkpoint. Should the first one live after all, it comes second to ``done.json`` and takes what is there.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agr_core.config import StageConfig
from agr_core.errors import DivergedError
from agr_core.objective import BEST, Objective
from orchestrator.datasets import DataRef, room_of, stage
from orchestrator.errors import AlreadyExistsError, NotFoundError, StorageError
from orchestrator.provenance import collect
from orchestrator.ray_tune.attempt import Attempt, kept_file, resume
from orchestrator.records import StageRef
from orchestrator.storage import layout
from orchestrator.storage.base import Storage
from orchestrator.weights import publish_weights, stage_weights

BEAT_S = 5.0
"""A claim is written again so often (seconds)."""

DEAD_AFTER_S = 30.0
"""A claim that did not change for so long (seconds, by the clock of whoever waits) is of a dead worker."""

POLL_S = 1.0
"""Whoever waits looks so often (seconds)."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Obtained:
    """The weights of a stage, and how they were come by; plain JSON on its way to the journal."""

    stage: str
    key: str
    trained: bool
    weights_sha256: str
    epochs: int
    best_epoch: int
    value: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Time, as a waiting worker sees it."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def obtain(
    config: StageConfig,
    ref: StageRef,
    weights_sha256: str | None,
    *,
    storage: Storage,
    cache: Path,
    scratch: Path,
    owner: str,
    say: Callable[[str], None],
    clock: Clock | None = None,
) -> Obtained:
    """The weights of a stage: those there are, or those that another worker is about to have, or trained here.

    Args:
        config: The stage.
        ref: Its key, data and split.
        weights_sha256: The weights it starts from, in the storage; None: random ones, or timm's.
        storage: The sweep's storage.
        cache: The node's cache.
        scratch: A folder for its checkpoints.
        owner: Who asks, ``<sweep>/<trial>``.
        say: Tells people that the worker waits, or trains.
        clock: Time; for tests.

    Raises:
        DivergedError: If the stage diverges, or did before.
        StorageError: If the storage refuses or does not answer.
    """
    clock = clock or Clock()
    started = clock.now()
    watch = _Watch(clock)
    while True:
        done = _done(storage, ref)
        if done is not None:
            trained = done["owner"] == owner  # an attempt that died before it could say so
            return _obtained(config, ref, done, trained=trained, seconds=clock.now() - started)
        number, claim = _newest_claim(storage, ref.key)
        if claim is not None and not watch.is_silent(number, claim):
            watch.say_once(f"waiting for stage {config.id}, which {claim['owner']} trains on {claim['host']}", say)
            clock.sleep(POLL_S)
            continue
        if claim is not None:
            say(f"stage {config.id}: {claim['owner']} has fallen silent; going on from where it was")
        try:
            storage.create(layout.stage_claim(ref.key, number + 1), _claim(owner, beat=0))
        except AlreadyExistsError:
            continue
        say(f"training stage {config.id} ({ref.key[:12]}), which this trial starts from")
        with _heartbeat(storage, ref.key, number + 1, owner):
            done = _train(config, ref, weights_sha256, number + 1, storage=storage, cache=cache, scratch=scratch)
            try:
                storage.create(layout.stage_done(ref.key), json.dumps({**done, "owner": owner}).encode("utf-8"))
            except AlreadyExistsError:
                continue  # taken for dead, and another was faster
        return _obtained(config, ref, done, trained=True, seconds=clock.now() - started)


def _train(
    config: StageConfig,
    ref: StageRef,
    weights_sha256: str | None,
    claim: int,
    *,
    storage: Storage,
    cache: Path,
    scratch: Path,
) -> dict[str, Any]:
    """Train a stage to its end and store its best weights; what ``done.json`` is to say."""
    from agr_core.data.trial_data import TrialData
    from agr_core.models.weights_file import WeightsFile
    from agr_core.trainer.loop import Training

    folder = scratch / f"stage-{config.id}-{claim}"
    folder.mkdir()
    about = {"stage": config.id, "stage_key": ref.key}
    attempt = Attempt(storage, layout.stage(ref.key), claim, scratch=folder, about=about)
    try:
        attempt.describe(config.config, provenance=collect())
        data_ref = DataRef(data_uri=ref.data_uri, data_digest=ref.data_digest, split_digest=ref.split_digest)
        staged = stage(data_ref, storage=storage, cache=cache)
        weights = None if weights_sha256 is None else stage_weights(weights_sha256, storage=storage, cache=cache)
        objective = Objective(metric=config.objective.metric, direction=config.objective.direction)
        opened = TrialData.open(
            config.config, packed=staged.packed, split=staged.split, cache=cache, room=room_of(cache)
        )
        with (
            closing(opened) as data,
            closing(Training(config.config, data, objective, weights=weights)) as training,
        ):
            if claim > 1:
                resume(attempt, training)
            while not training.finished:
                training.run_epoch()
                attempt.save(training)
            best = objective.best(training.reports)
            assert best is not None, "an epoch is over"
            return {
                "outcome": "completed",
                "weights_sha256": publish_weights(WeightsFile.of(attempt.folder / kept_file(BEST)), storage=storage),
                "epochs": training.epochs_done,
                "best_epoch": best.epoch,
                "value": objective.value(best.metrics),
            }
    except DivergedError as error:
        return {"outcome": "diverged", "error": str(error)}
    finally:
        attempt.close()


def _obtained(config: StageConfig, ref: StageRef, done: dict[str, Any], *, trained: bool, seconds: float) -> Obtained:
    if done["outcome"] == "diverged":
        raise DivergedError(f"stage {config.id}, which this trial starts from, diverged: {done['error']}")
    figures = {name: done[name] for name in ("weights_sha256", "epochs", "best_epoch", "value")}
    return Obtained(stage=config.id, key=ref.key, trained=trained, seconds=seconds, **figures)


def _done(storage: Storage, ref: StageRef) -> dict[str, Any] | None:
    try:
        document: dict[str, Any] = json.loads(storage.read(layout.stage_done(ref.key)))
    except NotFoundError:
        return None
    return document


def _newest_claim(storage: Storage, key: str) -> tuple[int, dict[str, Any] | None]:
    """Number and content of the newest claim; 0 and None without one."""
    newest = max((info.key for info in storage.list(layout.stage_claims(key))), default=None)
    if newest is None:
        return 0, None
    return int(Path(newest).stem), json.loads(storage.read(newest))


def _claim(owner: str, *, beat: int, released: bool = False) -> bytes:
    document = {"owner": owner, "host": socket.gethostname(), "beat": beat, "released": released}
    return json.dumps(document).encode("utf-8")


@contextmanager
def _heartbeat(storage: Storage, key: str, number: int, owner: str) -> Iterator[None]:
    """Write the claim again every few seconds; once the block is left by an error, let others have the stage."""
    over = threading.Event()

    def write(count: int, *, released: bool = False) -> None:
        try:
            storage.write(layout.stage_claim(key, number), _claim(owner, beat=count, released=released))
        except StorageError as error:  # others will take the claim for silent, which costs no more than time
            _LOG.warning("the claim on stage %s could not be written: %s", key[:12], error)

    def beat() -> None:
        count = 0
        while not over.wait(BEAT_S):
            count += 1
            write(count)

    thread = threading.Thread(target=beat, name=f"claim-{key[:8]}", daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        over.set()
        thread.join()
        write(-1, released=True)
        raise
    finally:
        over.set()
        thread.join()


class _Watch:
    """What a waiting worker has seen of a claim."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: tuple[int, dict[str, Any]] | None = None
        self._since = 0.0
        self._said: set[str] = set()

    def is_silent(self, number: int, claim: dict[str, Any]) -> bool:
        """Whether the claim was let go, or has not changed for too long. No clock of another machine matters."""
        if (number, claim) != self._seen:
            self._seen, self._since = (number, claim), self._clock.now()
        return bool(claim["released"]) or self._clock.now() - self._since > DEAD_AFTER_S

    def say_once(self, words: str, say: Callable[[str], None]) -> None:
        """Say it unless it was said."""
        if words not in self._said:
            self._said.add(words)
            say(words)
