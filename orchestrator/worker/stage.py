"""Stages before a trial: best weights, trained once by the first worker that needs them, then shared in the storage.

The weights are stored by their SHA-256; ``stages/<key>/done.json`` refers to them. Before a worker trains a stage it
claims it, by an exclusively created object that it rewrites every few seconds; other workers wait. A silent claim
belongs to a dead worker: another worker makes the next claim and continues from the newest checkpoint. If the first
worker is alive after all, it finds ``done.json`` and uses the weights there.
"""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agr_core.config import StageConfig, StrictModel
from agr_core.errors import ConfigError, DivergedError
from agr_core.objective import BEST, Objective
from orchestrator.assets.datasets import room_of, stage
from orchestrator.assets.weights import publish_weights, stage_weights
from orchestrator.catalog.stages import read_stage_done
from orchestrator.errors import AlreadyExistsError, NotFoundError, StorageError
from orchestrator.journal.events import StageRef
from orchestrator.provenance import collect
from orchestrator.storage import layout
from orchestrator.storage.base import Storage
from orchestrator.storage.documents import read_model, read_object
from orchestrator.worker.attempt import Attempt, kept_file, resume

BEAT_S = 5.0
"""Time between two heartbeats of a claim, in seconds."""

DEAD_AFTER_S = 30.0
"""Time without change after which a claim counts as dead, in seconds by the waiting worker's clock."""

POLL_S = 1.0
"""Time between two polls of a waiting worker, in seconds."""

_CLAIM = re.compile(r".*/[0-9]{6,12}\.json")

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Obtained:
    """The weights of a stage, and how they were obtained; plain JSON on its way to the journal."""

    stage: str
    key: str
    trained: bool
    weights_sha256: str
    epochs: int
    best_epoch: int
    value: float
    seconds: float
    metrics: dict[str, float] = field(default_factory=dict)
    """``test/...`` where the stage's ``evaluate.test`` asks for them."""


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Clock of a waiting worker."""

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
    """Return the weights of a stage, and the test metrics that the stage asks for; see ``_obtain``."""
    obtained = _obtain(
        config,
        ref,
        weights_sha256,
        storage=storage,
        cache=cache,
        scratch=scratch,
        owner=owner,
        say=say,
        clock=clock or Clock(),
    )
    if not config.config.evaluate.test:
        return obtained
    return replace(obtained, metrics=_test_figures(config, ref, obtained.weights_sha256, storage=storage, cache=cache))


def _obtain(
    config: StageConfig,
    ref: StageRef,
    weights_sha256: str | None,
    *,
    storage: Storage,
    cache: Path,
    scratch: Path,
    owner: str,
    say: Callable[[str], None],
    clock: Clock,
) -> Obtained:
    """Return a stage's weights: the stored ones, those of another worker after waiting, or trained here.

    Args:
        config: The stage.
        ref: Its key, data and split.
        weights_sha256: Initial weights in the storage; None: random ones, or timm's.
        storage: The sweep's storage.
        cache: The node's cache.
        scratch: Folder for its checkpoints.
        owner: The trial that needs the weights, ``<sweep>/<trial>``.
        say: Prints that the worker waits or trains.
        clock: Time; for tests.

    Raises:
        DivergedError: If the stage diverges, or did before.
        StorageError: If the storage refuses or does not answer.
    """
    started = clock.now()
    watch = _Watch(clock)
    while True:
        done = _done(storage, ref)
        if done is not None:
            trained = done["owner"] == owner  # by an attempt that died before reporting it
            return _obtained(config, ref, done, trained=trained, seconds=clock.now() - started)
        number, claim = _newest_claim(storage, ref.key)
        if claim is not None and not watch.is_silent(number, claim):
            watch.say_once(f"waiting for stage {config.id}, which {claim['owner']} trains on {claim['host']}", say)
            clock.sleep(POLL_S)
            continue
        if claim is not None:
            say(f"stage {config.id}: {claim['owner']} is silent; continuing from its last checkpoint")
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
                continue  # the claim counted as dead, and another worker finished first
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
    """Train a stage to its end and store its best weights; return the content of ``done.json``."""
    from agr_core.data.loading.trial_data import TrialData
    from agr_core.models.weights_file import WeightsFile
    from agr_core.trainer.loop import Training

    folder = scratch / f"stage-{config.id}-{claim}"
    folder.mkdir()
    about = {"stage": config.id, "stage_key": ref.key}
    attempt = Attempt(storage, layout.stage(ref.key), claim, scratch=folder, about=about)
    try:
        attempt.describe(config.config, provenance=collect())
        staged = stage(ref.data, storage=storage, cache=cache)
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
                resume(attempt, training, journalled=config.config.schedule.epochs)  # no report waits for its weights
            while not training.finished:
                training.run_epoch()
                attempt.save(training)
                attempt.remove_superseded(training.epochs_done)  # no journal names the weights of a stage's epochs
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


def _test_figures(
    config: StageConfig, ref: StageRef, weights_sha256: str, *, storage: Storage, cache: Path
) -> dict[str, float]:
    """Return ``test/...`` of a stage's weights; computed once, by the first request, and stored beside them.

    Raises:
        ConfigError: If the stage's split has no test part.
    """
    from agr_core.data.loading.trial_data import TrialData
    from agr_core.trainer.evaluation import evaluate_part

    key = layout.stage_test(ref.key)
    try:
        figures: dict[str, float] = read_object(storage, key)
    except NotFoundError:
        pass
    else:
        return figures
    staged = stage(ref.data, storage=storage, cache=cache)
    opened = TrialData.open(config.config, packed=staged.packed, split=staged.split, cache=cache, room=room_of(cache))
    with closing(opened) as data:
        if data.num_rows("test") == 0:
            raise ConfigError(
                f"stage {config.id}: evaluate.test asks for its test part, and its split has none: leave evaluate.test "
                "out, or choose a split with a test part."
            )
        weights = stage_weights(weights_sha256, storage=storage, cache=cache)
        figures = dict(evaluate_part(config.config, data, weights.path, "test").metrics)
    storage.write(key, json.dumps(figures).encode("utf-8"))
    return figures


def _obtained(config: StageConfig, ref: StageRef, done: dict[str, Any], *, trained: bool, seconds: float) -> Obtained:
    if done["outcome"] == "diverged":
        raise DivergedError(f"stage {config.id}, which this trial starts from, diverged: {done['error']}")
    figures = {name: done[name] for name in ("weights_sha256", "epochs", "best_epoch", "value")}
    return Obtained(stage=config.id, key=ref.key, trained=trained, seconds=seconds, **figures)


def _done(storage: Storage, ref: StageRef) -> dict[str, Any] | None:
    try:
        return read_stage_done(storage, ref.key).model_dump(exclude_none=True)
    except NotFoundError:
        return None


def _newest_claim(storage: Storage, key: str) -> tuple[int, dict[str, Any] | None]:
    """Return number and content of the newest claim; 0 and None without one."""
    claims = (info.key for info in storage.list(layout.stage_claims(key)))
    newest = max((claim for claim in claims if _CLAIM.fullmatch(claim) is not None), default=None)
    if newest is None:
        return 0, None
    return int(Path(newest).stem), read_model(storage, newest, _Claim).model_dump()


class _Claim(StrictModel):
    """A claim on a stage; its worker rewrites it as a heartbeat."""

    owner: str
    host: str
    beat: int
    released: bool


def _claim(owner: str, *, beat: int, released: bool = False) -> bytes:
    document = {"owner": owner, "host": socket.gethostname(), "beat": beat, "released": released}
    return json.dumps(document).encode("utf-8")


@contextmanager
def _heartbeat(storage: Storage, key: str, number: int, owner: str) -> Iterator[None]:
    """Rewrite the claim every few seconds; release the stage if the block raises."""
    over = threading.Event()

    def write(count: int, *, released: bool = False) -> None:
        try:
            storage.write(layout.stage_claim(key, number), _claim(owner, beat=count, released=released))
        except StorageError as error:  # others will treat the claim as silent, which costs only time
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
    """Observations of a claim by a waiting worker."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: tuple[int, dict[str, Any]] | None = None
        self._since = 0.0
        self._said: set[str] = set()

    def is_silent(self, number: int, claim: dict[str, Any]) -> bool:
        """Return whether the claim was released, or unchanged for too long, independent of other machines' clocks."""
        if (number, claim) != self._seen:
            self._seen, self._since = (number, claim), self._clock.now()
        return bool(claim["released"]) or self._clock.now() - self._since > DEAD_AFTER_S

    def say_once(self, words: str, say: Callable[[str], None]) -> None:
        """Say it unless it was said before."""
        if words not in self._said:
            self._said.add(words)
            say(words)
