"""Files of trials that were changed after they were stored: refused by everything that would use them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from agr_core.config import TrialConfig
from orchestrator.assets.recorded import read_recorded
from orchestrator.assets.weights import resolve_weights
from orchestrator.errors import DamagedError
from orchestrator.integrity.verify import Verifier
from orchestrator.journal.segments import read_state
from orchestrator.journal.sweep_state import SweepState, TrialState
from orchestrator.results.trained_model import fetched
from orchestrator.settings import Settings
from orchestrator.storage import layout
from orchestrator.storage.local import LocalStorage
from orchestrator.tracking.files import stored_reports, write_weights
from orchestrator.worker.evaluate import evaluate
from orchestrator.worker.job import Job
from tests.parts.trained_sweep import train_sweep

SWEEP = "finished-20260101-000000-aaaa"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage of a sweep of three trials."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGR_HOME", str(folder / "home"))
        train_sweep(str(folder / "storage"), SWEEP, interrupted=False)
    return folder / "storage"


class Copy:
    """A copy of that storage, to be changed, and two of its trials: the best one and another."""

    def __init__(self, root: Path) -> None:
        self.storage = LocalStorage(root)
        self.state: SweepState = read_state(self.storage, SWEEP)
        best = self.state.best()
        assert best is not None
        self.best: TrialState = best
        self.other = next(trial for trial in self.state.trials.values() if trial is not best)

    def folder(self, trial: TrialState) -> str:
        return layout.attempt(SWEEP, trial.trial_id, 0)

    def weights(self, trial: TrialState) -> str:
        return layout.best_weights(self.folder(trial), trial.kept_epochs["best"])

    def predictions(self, trial: TrialState) -> str:
        return layout.predictions(self.folder(trial), "val", trial.kept_epochs["best"])

    def exchange(self, one: str, two: str) -> None:
        first, second = self.storage.read(one), self.storage.read(two)
        self.storage.write(one, second)
        self.storage.write(two, first)

    def flip_a_bit(self, key: str) -> None:
        data = bytearray(self.storage.read(key))
        data[-3] ^= 0x40
        self.storage.write(key, bytes(data))


@pytest.fixture
def copy(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Copy:
    monkeypatch.setenv("AGR_HOME", str(tmp_path / "home"))
    return Copy(shutil.copytree(trained, tmp_path / "storage"))


def test_what_was_not_changed_is_used_and_verified(copy: Copy) -> None:
    with fetched(copy.storage, copy.best.trial_id) as model:
        assert model.weights.is_file()
    check = Verifier(copy.storage).sweep(SWEEP)
    assert (check.problems, check.unproven) == ([], 0)
    assert check.files >= 3 * 5, "weights, predictions, trial.json, labels.json and metrics.jsonl of each trial"
    assert check.shared == 2, "the data set and the split"


def test_weights_of_another_trial_and_a_flipped_bit_are_refused_by_whoever_takes_a_model(copy: Copy) -> None:
    copy.exchange(copy.weights(copy.best), copy.weights(copy.other))
    copy.flip_a_bit(copy.weights(copy.other))
    for trial in (copy.best, copy.other):
        with (
            pytest.raises(DamagedError, match=r"best/\d{6}\.safetensors has SHA-256"),
            fetched(copy.storage, trial.trial_id),
        ):
            pass
    with pytest.raises(DamagedError, match="it was changed after"):
        write_weights(copy.storage.root, copy.storage, SWEEP, copy.best)
    problems = {problem.key for problem in Verifier(copy.storage).sweep(SWEEP).problems}
    assert problems == {copy.weights(copy.best), copy.weights(copy.other)}


def test_changed_weights_are_no_initial_weights(copy: Copy) -> None:
    copy.flip_a_bit(copy.weights(copy.best))
    config = copy.best.created.config
    model = TrialConfig.from_document(
        {**config, "model": {**config["model"], "weights": f"trial:{copy.best.trial_id}"}}
    ).model
    with pytest.raises(DamagedError, match="it was changed after"):
        resolve_weights(model, storage=copy.storage, settings=Settings.from_environment())
    assert not list(copy.storage.list(layout.WEIGHTS))


def test_the_test_part_is_not_read_with_changed_weights(copy: Copy, tmp_path: Path) -> None:
    key = copy.weights(copy.best)
    sha256 = copy.best.recorded_sha256(key)
    copy.flip_a_bit(key)
    job = Job.of(copy.best.created, copy.state.started, storage=copy.storage.uri).to_json()
    epoch = copy.best.kept_epochs["best"]
    with pytest.raises(DamagedError, match="it was changed after"):
        evaluate(job, copy.folder(copy.best), epoch, str(tmp_path / "cache"), sha256)


def test_exchanged_predictions_and_classes_are_refused(copy: Copy) -> None:
    copy.exchange(copy.predictions(copy.best), copy.predictions(copy.other))
    for trial in (copy.best, copy.other):
        with pytest.raises(DamagedError, match=r"predictions/val-\d{6}\.parquet has SHA-256"):
            read_recorded(copy.storage, copy.predictions(trial), trial)
    labels = f"{copy.folder(copy.best)}/{layout.LABELS}"
    document = json.loads(copy.storage.read(labels))
    document["genders"].reverse()
    copy.storage.write(labels, json.dumps(document).encode())
    with pytest.raises(DamagedError, match=r"labels\.json has SHA-256"), fetched(copy.storage, copy.best.trial_id):
        pass


def test_changed_figures_beside_the_journal_are_refused_and_epochs_it_does_not_have_are_no_change(copy: Copy) -> None:
    key = f"{copy.folder(copy.best)}/metrics.jsonl"
    lines = copy.storage.read(key)
    copy.storage.write(key, lines + lines.splitlines(keepends=True)[-1])  # an epoch that was not journalled
    assert stored_reports(copy.storage, SWEEP, copy.best)
    copy.storage.write(key, lines.replace(b'"val/age_mae": ', b'"val/age_mae": 0', 1))
    with pytest.raises(DamagedError, match=r"metrics\.jsonl has SHA-256"):
        stored_reports(copy.storage, SWEEP, copy.best)


def test_of_a_trial_from_before_files_were_listed_they_are_used_and_counted_as_unproven(copy: Copy) -> None:
    for info in list(copy.storage.list(layout.journal(SWEEP))):
        lines = [json.loads(line) for line in copy.storage.read(info.key).splitlines()[1:]]
        text = "".join(json.dumps({**event, "files": {}} if "files" in event else event) + "\n" for event in lines)
        copy.storage.write(info.key, text.encode())
    copy.storage.delete(layout.summary(SWEEP))

    with fetched(copy.storage, copy.best.trial_id) as model:
        assert model.weights.is_file()
    assert Verifier(copy.storage).sweep(SWEEP).unproven == 3
