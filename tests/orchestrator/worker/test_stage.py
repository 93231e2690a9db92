"""Who trains a stage, who waits, who takes over."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agr_core.config import StageConfig, TrialConfig
from agr_core.errors import ConfigError, DivergedError
from orchestrator.errors import StorageError
from orchestrator.journal.events import StageRef
from orchestrator.storage import layout, open_storage
from orchestrator.storage.base import Storage
from orchestrator.worker import stage as stages
from orchestrator.worker.stage import DEAD_AFTER_S, Clock, Obtained, obtain

KEY = "k" * 64
REF = StageRef(id="pre", key=KEY, data_uri="/data", data_digest="d", split_digest="s")
DONE = {"outcome": "completed", "weights_sha256": "w" * 64, "epochs": 3, "best_epoch": 2, "value": 0.5}


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "storage"))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The claims under which the stage was trained, which here takes no time."""
    claims: list[int] = []

    def train(config: Any, ref: Any, weights: Any, claim: int, **_: Any) -> dict[str, Any]:
        claims.append(claim)
        return DONE

    monkeypatch.setattr(stages, "_train", train)
    return claims


class Time:
    """Time that passes while somebody sleeps, and what happens meanwhile."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.then: dict[float, Any] = {}

    def clock(self) -> Clock:
        return Clock(now=lambda: self.seconds, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        for at in [at for at in self.then if at <= self.seconds]:
            self.then.pop(at)()


def ask(storage: Storage, tmp_path: Path, *, owner: str = "me", time: Time | None = None, said: Any = None) -> Obtained:
    config = StageConfig(id="pre", config=TrialConfig())
    return obtain(
        config,
        REF,
        None,
        storage=storage,
        cache=tmp_path / "cache",
        scratch=tmp_path,
        owner=owner,
        say=(said if said is not None else []).append,
        clock=(time or Time()).clock(),
    )


def claim(storage: Storage, number: int, **fields: Any) -> None:
    document = {"owner": "them", "host": "there", "beat": 0, "released": False, **fields}
    storage.write(layout.stage_claim(KEY, number), json.dumps(document).encode())


def finish(storage: Storage, owner: str = "them", **fields: Any) -> None:
    storage.create(layout.stage_done(KEY), json.dumps({**DONE, "owner": owner, **fields}).encode())


def test_who_needs_a_stage_first_trains_it_and_others_reuse_it(
    storage: Storage, tmp_path: Path, trained: list[int]
) -> None:
    first, second = ask(storage, tmp_path, owner="a"), ask(storage, tmp_path, owner="b")
    assert (first.trained, second.trained, trained) == (True, False, [1])
    assert replace(first, trained=False, seconds=0) == replace(second, seconds=0)
    assert (first.weights_sha256, first.epochs, first.best_epoch, first.value) == ("w" * 64, 3, 2, 0.5)


def test_an_attempt_that_died_after_training_does_not_train_again(
    storage: Storage, tmp_path: Path, trained: list[int]
) -> None:
    finish(storage, owner="me")
    assert ask(storage, tmp_path, owner="me").trained
    assert trained == []


def test_who_comes_second_waits_says_so_once_and_takes_what_comes(
    storage: Storage, tmp_path: Path, trained: list[int]
) -> None:
    time, said = Time(), []
    claim(storage, 1)
    time.then = {20.0: lambda: claim(storage, 1, beat=1), 45.0: lambda: finish(storage)}
    obtained = ask(storage, tmp_path, time=time, said=said)
    assert (obtained.trained, trained) == (False, [])
    assert obtained.seconds == 45.0
    assert said == ["waiting for stage pre, which them trains on there"]


def test_a_claim_that_falls_silent_is_taken_over(storage: Storage, tmp_path: Path, trained: list[int]) -> None:
    time, said = Time(), []
    claim(storage, 1)
    time.then = {10.0: lambda: claim(storage, 1, beat=1)}
    assert ask(storage, tmp_path, time=time, said=said).trained
    assert trained == [2]
    assert 10.0 + DEAD_AFTER_S < time.seconds < 10.0 + DEAD_AFTER_S + 5.0
    assert "them is silent" in said[1]


def test_a_claim_that_was_let_go_is_taken_over_at_once(storage: Storage, tmp_path: Path, trained: list[int]) -> None:
    time = Time()
    claim(storage, 1, released=True)
    assert ask(storage, tmp_path, time=time).trained
    assert (trained, time.seconds) == ([2], 0.0)


def test_who_was_taken_for_dead_takes_what_the_other_made(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: Any, **__: Any) -> dict[str, Any]:
        finish(storage, weights_sha256="o" * 64)
        return DONE

    monkeypatch.setattr(stages, "_train", train)
    obtained = ask(storage, tmp_path)
    assert (obtained.trained, obtained.weights_sha256) == (False, "o" * 64)


def test_a_failure_lets_others_have_the_stage(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: Any, **__: Any) -> dict[str, Any]:
        raise StorageError("the disk is full")

    monkeypatch.setattr(stages, "_train", train)
    with pytest.raises(StorageError, match="the disk is full"):
        ask(storage, tmp_path)
    assert json.loads(storage.read(layout.stage_claim(KEY, 1)))["released"]
    assert not storage.exists(layout.stage_done(KEY))


def test_a_claim_is_renewed_while_the_stage_is_trained(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats = []

    def train(*_: Any, **__: Any) -> dict[str, Any]:
        import time

        until = time.monotonic() + 5
        while len(beats) < 2 and time.monotonic() < until:
            beat = json.loads(storage.read(layout.stage_claim(KEY, 1)))["beat"]
            if beat not in beats:
                beats.append(beat)
        return DONE

    monkeypatch.setattr(stages, "_train", train)
    monkeypatch.setattr(stages, "BEAT_S", 0.02)
    ask(storage, tmp_path)
    assert len(beats) == 2


def test_a_stage_that_diverged_ends_every_trial_that_starts_from_it(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "_train", lambda *_, **__: {"outcome": "diverged", "error": "epoch 1, step 3"})
    for owner in ("a", "b"):
        with pytest.raises(DivergedError, match="stage pre, which this trial starts from, diverged: epoch 1, step 3"):
            ask(storage, tmp_path, owner=owner)
    assert len(list(storage.list(layout.stage_claims(KEY)))) == 1


def real(storage: Storage, tmp_path: Path, name: str, **more: Any) -> Obtained:
    """A stage on drawn faces, trained for real; ``more`` are fields of its configuration."""
    from orchestrator.assets.datasets import prepare_data

    scratch = tmp_path / name
    scratch.mkdir()
    document = {
        "data": {"source": "synthetic", "synthetic": {"images": 80, "size": 16}},
        "tasks": ["gender"],
        "image": {"size": 16},
        "model": {"name": "basic_cnn", "conv_layers": 2, "base_features": 4, "hidden": 8},
        "schedule": {"name": "constant", "epochs": 4},
        **more,
    }
    stage = StageConfig(id="pre", config=TrialConfig.from_document(document))
    data = prepare_data(stage.config.data, storage=storage, cache=tmp_path / "cache")
    content = {"data_digest": data.data_digest, "split_digest": data.split_digest}
    ref = StageRef(id="pre", key=KEY, data_uri=data.data_uri, **content)
    return obtain(
        stage, ref, None, storage=storage, cache=tmp_path / "cache", scratch=scratch, owner=name, say=lambda _: None
    )


@pytest.mark.slow
def test_a_stage_that_is_taken_over_resumes_at_its_last_epoch_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agr_core.trainer.loop import Training

    trained: list[int] = []
    run_epoch = Training.run_epoch

    def counted(training: Training) -> Any:
        if trained == [1, 2]:
            trained.append(0)
            raise StorageError("the node is gone")
        report = run_epoch(training)
        trained.append(report.epoch)
        return report

    whole = real(open_storage(str(tmp_path / "one")), tmp_path, "whole")
    monkeypatch.setattr(Training, "run_epoch", counted)
    storage = open_storage(str(tmp_path / "other"))
    with pytest.raises(StorageError, match="the node is gone"):
        real(storage, tmp_path, "dies")
    again = real(storage, tmp_path, "goes-on")
    assert trained == [1, 2, 0, 3, 4]
    assert again.trained
    assert again.epochs == 4
    assert (again.weights_sha256, again.best_epoch, again.value) == (
        whole.weights_sha256,
        whole.best_epoch,
        whole.value,
    )
    assert storage.exists(layout.weights(again.weights_sha256))
    assert storage.exists(f"{layout.stage(KEY)}/attempt-2/metrics.jsonl")


def test_a_stages_test_part_is_read_where_that_is_asked_for_and_once_by_whoever_asks_first(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "storage"))
    short = {"schedule": {"name": "constant", "epochs": 1}}
    without = real(storage, tmp_path, "without", **short)
    assert without.metrics == {}

    asked = real(storage, tmp_path, "asked", **short, evaluate={"test": True})

    assert not asked.trained, "the weights are those of before"
    assert 0.0 <= asked.metrics["test/gender_acc"] <= 1.0
    assert asked.metrics["test/images"] > 0
    storage.write(layout.stage_test(KEY), json.dumps({"test/gender_acc": 0.25}).encode())
    assert real(storage, tmp_path, "again", **short, evaluate={"test": True}).metrics == {"test/gender_acc": 0.25}


def test_a_stage_without_a_test_part_cannot_be_asked_for_its_figures(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "storage"))
    data = {"source": "synthetic", "synthetic": {"images": 80, "size": 16}, "split": {"fractions": [0.8, 0.2, 0.0]}}
    short = {"schedule": {"name": "constant", "epochs": 1}, "data": data}
    with pytest.raises(ConfigError, match=r"stage pre: evaluate\.test asks for its test part, and its split has none"):
        real(storage, tmp_path, "asked", **short, evaluate={"test": True})
