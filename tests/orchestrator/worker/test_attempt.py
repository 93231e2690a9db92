from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agr_core.config import TrialConfig
from agr_core.labels.attributes import Vocabulary
from agr_core.reporting import EpochReport
from orchestrator.storage import layout, open_storage
from orchestrator.storage.base import Storage
from orchestrator.worker.attempt import (
    JOURNALLED_AFTER_S,
    LAST,
    STATE,
    Attempt,
    kept_file,
    newest_checkpoint,
    predictions_file,
    resume,
)

BEST = kept_file("best")
SWEEP, TRIAL = "s-20260101-000000-abcd", "0123abcd"


class Trained:
    """Saves what a training saves, with the epoch in every file."""

    def __init__(self, values: list[float]) -> None:
        self.reports = [EpochReport(epoch=n, metrics={"val/loss": value}) for n, value in enumerate(values, start=1)]
        self.epochs_done = len(values)
        self.kept_epochs = {"best": 1 + values.index(min(values)), "worst": 1 + values.index(max(values))}

    def save(self, folder: Path) -> None:
        (folder / LAST).write_text(f"last {self.epochs_done}")
        for label, epoch in self.kept_epochs.items():
            (folder / kept_file(label)).write_text(f"weights {epoch}")
            (folder / predictions_file(label)).write_text(f"predictions {epoch}")
        state = {"kept_epochs": self.kept_epochs, "epochs_done": self.epochs_done}
        state["sha256"] = {predictions_file(label): "" for label in self.kept_epochs}
        (folder / STATE).write_text(json.dumps(state))


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "storage"))


def attempt(storage: Storage, tmp_path: Path, number: int, *, clock: Callable[[], float] = time.monotonic) -> Attempt:
    scratch = tmp_path / f"scratch-{number}"
    scratch.mkdir()
    return Attempt(storage, layout.trial(SWEEP, TRIAL), number, scratch=scratch, clock=clock)


def keys(storage: Storage, number: int) -> set[str]:
    folder = layout.attempt(SWEEP, TRIAL, number)
    return {info.key.removeprefix(f"{folder}/") for info in storage.list(folder)}


def train(one: Attempt, values: list[float]) -> None:
    for epochs in range(1, len(values) + 1):
        trained: Any = Trained(values[:epochs])
        one.save(trained)


def test_only_the_newest_checkpoint_and_the_best_weights_of_each_label_are_kept(
    storage: Storage, tmp_path: Path
) -> None:
    trained = attempt(storage, tmp_path, 0)
    train(trained, [2.0, 1.0, 3.0, 1.5])
    trained.remove_superseded(4)
    assert keys(storage, 0) == {
        "checkpoints/000004/last.safetensors",
        "checkpoints/000004/state.json",
        "best/000002.safetensors",
        "best/000003.safetensors",
        "predictions/val-000002.parquet",
        "predictions/val-000003.parquet",
        "metrics.jsonl",
        "log.txt",
    }
    lines = storage.read(f"{layout.attempt(SWEEP, TRIAL, 0)}/metrics.jsonl").splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 4]


def best(storage: Storage, number: int) -> set[int]:
    names = (key for key in keys(storage, number) if key.startswith("best/"))
    return {int(Path(name).stem) for name in names}


def test_superseded_weights_stay_until_the_report_of_the_better_epoch_is_in_the_journal(
    storage: Storage, tmp_path: Path
) -> None:
    """A worker that is killed after it saved epoch 2 does not take with it the weights of epoch 1."""
    now = 100.0
    one = attempt(storage, tmp_path, 0, clock=lambda: now)
    trained: list[Any] = [Trained([3.0, 2.0, 1.0, 4.0, 5.0][:epochs]) for epochs in range(1, 6)]
    one.save(trained[0])
    one.report_taken(1)
    one.save(trained[1])
    assert best(storage, 0) == {1, 2}, "nobody has the report of epoch 2"

    one.report_taken(2)
    assert best(storage, 0) == {1, 2}, "the driver has it, and stores events once a second"
    one.save(trained[2])
    assert best(storage, 0) == {1, 2, 3}

    now += JOURNALLED_AFTER_S
    one.report_taken(3)  # 1 and 3 are kept, as worst and best
    assert best(storage, 0) == {1, 2, 3}
    one.save(trained[3])
    now += JOURNALLED_AFTER_S
    one.report_taken(4)
    assert best(storage, 0) == {1, 3, 4}
    one.save(trained[4])
    now += JOURNALLED_AFTER_S
    one.report_taken(5)
    assert best(storage, 0) == {3, 4, 5}
    assert f"predictions/val-{2:06d}.parquet" not in keys(storage, 0)


def test_the_most_advanced_checkpoint_of_all_attempts_is_brought_back(storage: Storage, tmp_path: Path) -> None:
    train(attempt(storage, tmp_path, 0), [3.0, 1.0, 2.0])
    train(attempt(storage, tmp_path, 2), [3.0])
    third = attempt(storage, tmp_path, 4)
    assert third.fetch_newest_checkpoint()
    assert (third.folder / LAST).read_text() == "last 3"
    assert (third.folder / BEST).read_text() == "weights 2"
    assert (third.folder / kept_file("worst")).read_text() == "weights 1"
    assert (third.folder / predictions_file("best")).read_text() == "predictions 2"
    assert (third.folder / predictions_file("worst")).read_text() == "predictions 1"


def test_a_worker_that_comes_back_writes_beside_the_attempt_that_took_over(storage: Storage, tmp_path: Path) -> None:
    """Its node was cut off after two epochs; a second attempt began, and the first one goes on, not knowing of it."""
    cut_off = attempt(storage, tmp_path, 0)
    train(cut_off, [2.0, 1.0])
    second = attempt(storage, tmp_path, 1)
    assert second.fetch_newest_checkpoint()
    train(second, [2.0, 1.0, 3.0])
    own = {key: storage.read(key) for key in (info.key for info in storage.list(layout.attempt(SWEEP, TRIAL, 1)))}

    train(cut_off, [2.0, 1.0, 9.0, 9.0])

    after = {key: storage.read(key) for key in (info.key for info in storage.list(layout.attempt(SWEEP, TRIAL, 1)))}
    assert after == own
    assert "checkpoints/000004/state.json" in keys(storage, 0)


class WorkerDiedError(Exception):
    """The worker's process ends."""


def dying_after(storage: Storage, writes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process end before the write to ``storage`` that follows ``writes`` others."""
    left = [writes]

    def counted(write: Any) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            if not left[0]:
                raise WorkerDiedError
            left[0] -= 1
            return write(*arguments, **more)

        return call

    for name in ("upload", "write", "delete"):
        monkeypatch.setattr(storage, name, counted(getattr(storage, name)))


@pytest.mark.parametrize("writes", range(8))
def test_a_worker_that_dies_while_it_saves_leaves_a_whole_checkpoint(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """The state of a checkpoint is stored after its tensors, so that a checkpoint with a state is whole."""
    first = attempt(storage, tmp_path, 0)
    train(first, [3.0, 2.0])
    training: Any = Trained([3.0, 2.0, 1.0])
    with monkeypatch.context() as context:
        dying_after(storage, writes, context)
        with pytest.raises(WorkerDiedError):
            first.save(training)

    stored = keys(storage, 0)
    states = [key for key in stored if key.endswith(STATE)]
    assert {key.replace(STATE, LAST) for key in states} <= stored, "nor is there ever a state without its tensors"
    second = attempt(storage, tmp_path, 1)
    assert second.fetch_newest_checkpoint()
    epochs = json.loads((second.folder / STATE).read_text())["epochs_done"]
    assert (second.folder / LAST).read_text() == f"last {epochs}"
    assert (second.folder / BEST).read_text() == f"weights {epochs}"


def test_an_epoch_that_is_saved_again_keeps_its_checkpoint(storage: Storage, tmp_path: Path) -> None:
    first = attempt(storage, tmp_path, 0)
    train(first, [2.0])
    again: Any = Trained([2.0])
    first.save(again)
    assert newest_checkpoint(storage, layout.trial(SWEEP, TRIAL)) == (layout.attempt(SWEEP, TRIAL, 0), 1)


def test_a_checkpoint_without_its_state_is_not_one(storage: Storage, tmp_path: Path) -> None:
    """The worker died between the weights and the state of epoch 2; epoch 1 is still whole."""
    train(attempt(storage, tmp_path, 0), [3.0])
    folder = layout.attempt(SWEEP, TRIAL, 0)
    storage.write(f"{layout.checkpoint(folder, 2)}/{LAST}", b"last 2")
    storage.write(layout.best_weights(folder, 2), b"weights 2")
    assert newest_checkpoint(storage, layout.trial(SWEEP, TRIAL)) == (folder, 1)
    second = attempt(storage, tmp_path, 1)
    assert second.fetch_newest_checkpoint()
    assert (second.folder / BEST).read_text() == "weights 1"


@pytest.mark.parametrize(
    "state",
    [
        '{"kept_ep',
        "",
        "[1]",
        '{"kept_epochs": [1]}',
        '{"kept_epochs": {"best": "one"}}',
        '{"kept_epochs": {"best": -1}}',
        "[" * 5_000,
        '{"kept_epochs": {"../../escaped": 1}}',
        '{"kept_epochs": {"FOLDER/escaped": 1}}',
    ],
    ids=range(9),
)
def test_a_state_that_no_training_writes_costs_the_checkpoint_and_names_no_file(
    storage: Storage, tmp_path: Path, state: str
) -> None:
    """Damaged, or written by somebody who wants a file of theirs in another place."""
    train(attempt(storage, tmp_path, 0), [2.0])
    folder = layout.attempt(SWEEP, TRIAL, 0)
    storage.write(f"{layout.checkpoint(folder, 1)}/{STATE}", state.replace("FOLDER", str(tmp_path)).encode())
    second = attempt(storage, tmp_path, 1)

    never_restored: Any = None
    resume(second, never_restored, journalled=0)

    assert list(tmp_path.rglob("escaped*")) == []
    second.upload_log()
    log = storage.read(f"{layout.attempt(SWEEP, TRIAL, 1)}/log.txt").decode()
    assert f"training restarts: {storage.uri}/{folder}/checkpoints/000001/{STATE} is not of a checkpoint" in log


class Resumed(Trained):
    """Has restored the checkpoint of a training with these values."""

    def restore(self, folder: Path) -> None:
        assert (folder / LAST).read_text() == f"last {self.epochs_done}"


@pytest.mark.parametrize(("journalled", "copied"), [(1, {1, 2}), (3, set())])
def test_weights_that_a_report_not_yet_journalled_supersedes_are_in_the_new_attempt_too(
    storage: Storage, tmp_path: Path, journalled: int, copied: set[int]
) -> None:
    """The driver journals the epochs ahead one by one, and may be killed in between."""
    values = [3.0, 2.0, 1.0]
    first = attempt(storage, tmp_path, 0)
    for epochs in (1, 2, 3):
        each: Any = Trained(values[:epochs])
        each.kept_epochs = {"best": epochs}
        first.save(each)
    storage.write(f"{layout.all_best_weights(layout.attempt(SWEEP, TRIAL, 0))}/notes.txt", b"")

    second = attempt(storage, tmp_path, 1)
    resumed: Any = Resumed(values)
    resumed.kept_epochs = {"best": 3}
    resume(second, resumed, journalled=journalled)

    folder = layout.attempt(SWEEP, TRIAL, 1)
    assert held(storage) == {*copied, 3}
    for epoch in copied:
        assert storage.read(layout.best_weights(folder, epoch)).decode() == f"weights {epoch}"
        assert storage.read(layout.predictions(folder, "val", epoch)).decode() == f"predictions {epoch}"
    second.remove_superseded(3)
    assert held(storage) == {3}


def held(storage: Storage) -> set[int]:
    """The epochs whose weights the second attempt holds."""
    folder = layout.all_best_weights(layout.attempt(SWEEP, TRIAL, 1))
    return {int(Path(info.key).stem) for info in storage.list(folder)}


def test_what_others_left_among_the_checkpoints_is_passed_over(storage: Storage, tmp_path: Path) -> None:
    train(attempt(storage, tmp_path, 0), [2.0])
    folder = layout.attempt(SWEEP, TRIAL, 0)
    storage.write(f"{layout.checkpoints(folder)}/old/{STATE}", b"{}")
    assert newest_checkpoint(storage, layout.trial(SWEEP, TRIAL)) == (folder, 1)


def test_a_first_attempt_finds_no_checkpoint(storage: Storage, tmp_path: Path) -> None:
    assert not attempt(storage, tmp_path, 0).fetch_newest_checkpoint()


def test_trial_json_has_the_complete_configuration(storage: Storage, tmp_path: Path) -> None:
    config = TrialConfig()
    attempt(storage, tmp_path, 0).describe(config, provenance={"python": "3.11"})
    document = json.loads(storage.read(f"{layout.attempt(SWEEP, TRIAL, 0)}/trial.json"))
    assert TrialConfig.from_document(document["config"]) == config
    assert document["provenance"] == {"python": "3.11"}


def test_labels_say_what_the_outputs_stand_for(storage: Storage, tmp_path: Path) -> None:
    one = attempt(storage, tmp_path, 0)
    one.describe_labels(Vocabulary(("male", "female"), ("a", "b")), {"margin": 0.4}, drawn=True)
    one.close()
    assert json.loads(storage.read(f"{layout.attempt(SWEEP, TRIAL, 0)}/labels.json")) == {
        "genders": ["male", "female"],
        "races": ["a", "b"],
        "attributes": [],
        "crop": {"margin": 0.4},
        "drawn": True,
    }


def test_the_log_has_the_telling_figures_of_each_epoch_and_metrics_jsonl_has_all(
    storage: Storage, tmp_path: Path
) -> None:
    trained: Any = Trained([2.0])
    more = {
        "val/age_mae": 7.0,
        "val/age_f1.utk4": 0.5,
        "val/gender_recall.female": 0.5,
        "train/loss": 3.0,
        "val/lr": 1.0,
    }
    trained.reports[0] = EpochReport(epoch=1, metrics={**more, **trained.reports[0].metrics})
    one = attempt(storage, tmp_path, 0)
    one.save(trained)
    one.close()
    folder = layout.attempt(SWEEP, TRIAL, 0)
    assert storage.read(f"{folder}/log.txt").decode() == "epoch 1: train/loss 3, val/loss 2, val/age_mae 7\n"
    assert "val/gender_recall.female" in storage.read(f"{folder}/metrics.jsonl").decode()


def test_the_log_of_a_finished_trial_warns_of_its_best_epochs_collapsed_heads(storage: Storage, tmp_path: Path) -> None:
    trained: Any = Trained([2.0, 1.0, 3.0])
    gender = {"val/gender_acc": 0.5, "val/gender_majority": 0.5, "val/gender_constancy": 1.0}
    for epoch in (1, 2):  # 0-based: the best and the last
        metrics = {**trained.reports[epoch].metrics, **gender}
        trained.reports[epoch] = EpochReport(epoch=epoch + 1, metrics=metrics, finished=epoch == 2)
    one = attempt(storage, tmp_path, 0)
    one.save(trained)
    one.close()
    log = storage.read(f"{layout.attempt(SWEEP, TRIAL, 0)}/log.txt").decode()
    assert [line for line in log.splitlines() if line.startswith("warning")] == [
        "warning, epoch 2, whose weights are kept: collapsed: the gender head gives 100.0% of the images the same "
        "answer (val)."
    ]
