"""``agr ensemble``: figures of trials and of their averaged predictions."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from scipy.stats import t
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error
from typer.testing import CliRunner

from agr_core.bins import Bins
from agr_core.evaluation.predictions import AgeShares, Classified, Predictions
from agr_core.objective import Objective
from orchestrator.cli.main import app
from orchestrator.journal.segments import read_state
from orchestrator.storage import layout, open_storage
from tests.parts.trained_sweep import train_all

Agr = Callable[..., Result]
IMAGES = 200
GENDERS = ("male", "female")
EDGES = Bins.from_spec("utk7").edges
AGES = np.random.default_rng(0).integers(1, 90, IMAGES).astype(np.float32)
TRUE = np.random.default_rng(1).integers(0, 2, IMAGES)
IDS = tuple(f"faces/{number:016x}" for number in range(IMAGES))
FIGURES = ("test/age_mae", "test/gender_acc", "test/gender_f1", "test/age_acc.utk7", "test/gender_loss")


def said(seed: int, *, order: Any = None) -> Predictions:
    """Predictions of a model that is right more often than not; ``order``: the images' order in its data set."""
    random = np.random.default_rng(seed)
    order = np.arange(IMAGES) if order is None else order
    female = (1 / (1 + np.exp(-(TRUE * 2 - 1 + random.normal(0, 1.5, IMAGES))))).astype(np.float32)
    shares = random.dirichlet(np.ones(len(EDGES)), IMAGES)
    shares[np.arange(IMAGES), Bins(EDGES).index(AGES)] += 0.5
    shares = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
    genders = np.stack([1 - female, female], axis=1)
    years = (shares @ Bins(EDGES).centers).astype(np.float32)
    return Predictions(
        tuple(IDS[row] for row in order),
        years={"age_low": AGES[order], "age_high": AGES[order], "age_predicted": years[order], "age_std": years[order]},
        classes={
            "gender": Classified(GENDERS, TRUE[order], genders.argmax(axis=1)[order], genders[order]),
        },
        age_shares=AgeShares(EDGES, shares[order]),
    )


class Ensembles:
    """A sweep with one trial for each of the predictions; their test part was read."""

    def __init__(self, record_sweep: Any, *predictions: Predictions, age: Any = None) -> None:
        self.sweep = record_sweep()
        self.ids = []
        for number, each in enumerate(predictions):
            params = {"age.encoding": "onehot", "age.bins": "utk7", "seed": number, **(age or {})}
            trial = self.sweep.trial(number, [9.0, 7.0], params=params)
            self.sweep.read_test(trial, dict.fromkeys(FIGURES, 1.0))
            self.store(trial, each)
            self.ids.append(trial)

    def store(self, trial: str, predictions: Predictions, part: str = "test") -> None:
        folder = layout.attempt(self.sweep.sweep_id, trial, 0)
        self.sweep.storage.write(layout.predictions(folder, part, 2), predictions.to_parquet())


def test_the_ensembles_figures_are_those_of_the_mean_probabilities(record_sweep: Any, agr: Agr) -> None:
    members = [said(seed) for seed in (2, 3, 4)]
    trials = Ensembles(record_sweep, *members).ids

    found = json.loads(agr("ensemble", *trials, "--json").stdout)

    female = np.mean([each.classes["gender"].probabilities[:, 1] for each in members], axis=0)  # type: ignore[index]
    years = np.mean([each.years["age_predicted"].astype(float) for each in members], axis=0)
    combined = found["ensemble"]["metrics"]
    assert combined["gender_acc"]["mean"] == pytest.approx(accuracy_score(TRUE, female > 0.5))
    assert combined["gender_f1"]["mean"] == pytest.approx(f1_score(TRUE, female > 0.5, average="macro"))
    assert combined["age_mae"]["mean"] == pytest.approx(mean_absolute_error(AGES, years), abs=1e-5)
    assert "gender_loss" not in combined
    assert (found["part"], found["images"], found["tasks"]) == ("test", IMAGES, ["age", "gender"])
    assert [member["trial_id"] for member in found["members"]] == trials
    for member, each in zip(found["members"], members, strict=True):
        errors = np.abs(each.years["age_predicted"].astype(float) - AGES)
        estimate = member["metrics"]["age_mae"]
        margin = t.ppf(0.975, IMAGES - 1) * errors.std(ddof=1) / np.sqrt(IMAGES)
        assert (estimate["mean"], estimate["high"]) == pytest.approx((errors.mean(), errors.mean() + margin), abs=1e-5)
        assert estimate["images"] == IMAGES


def test_the_difference_is_to_the_best_member_over_the_same_images(record_sweep: Any, agr: Agr) -> None:
    members = [said(seed) for seed in (2, 3)]
    trials = Ensembles(record_sweep, *members).ids

    against = json.loads(agr("ensemble", *trials, "--json").stdout)["ensemble"]["against_best"]["age_mae"]

    errors = [np.abs(each.years["age_predicted"].astype(float) - AGES) for each in members]
    best = int(np.argmin([each.mean() for each in errors]))
    together = np.abs(np.mean([each.years["age_predicted"].astype(float) for each in members], axis=0) - AGES)
    differences = together - errors[best]
    margin = t.ppf(0.975, IMAGES - 1) * differences.std(ddof=1) / np.sqrt(IMAGES)
    assert against["trial"] == trials[best]
    assert (against["difference"]["mean"], against["difference"]["low"]) == pytest.approx(
        (differences.mean(), differences.mean() - margin), abs=1e-5
    )
    assert against["verdict"] == ("better" if differences.mean() + margin < 0 else "tie")


def test_images_are_matched_by_content_in_any_order(record_sweep: Any, agr: Agr) -> None:
    straight = Ensembles(record_sweep, said(2), said(3))
    before = json.loads(agr("ensemble", *straight.ids, "--json").stdout)
    shuffled = said(3, order=np.random.default_rng(7).permutation(IMAGES))
    renamed = replace(shuffled, sample_ids=tuple(name.replace("faces/", "packed/") for name in shuffled.sample_ids))
    straight.store(straight.ids[1], renamed)

    after = json.loads(agr("ensemble", *straight.ids, "--json").stdout)

    assert after["ensemble"]["metrics"]["age_mae"] == pytest.approx(before["ensemble"]["metrics"]["age_mae"])
    assert after["ensemble"]["metrics"]["gender_f1"] == pytest.approx(before["ensemble"]["metrics"]["gender_f1"])


def test_likeliest_bins_are_those_of_the_mean_distribution(record_sweep: Any, agr: Agr) -> None:
    members = [said(seed) for seed in (2, 3)]
    trials = Ensembles(record_sweep, *members, age={"age.decode": "argmax"}).ids

    found = json.loads(agr("ensemble", *trials, "--json").stdout)

    shares = np.mean([each.age_shares.probabilities for each in members], axis=0)  # type: ignore[union-attr]
    right = shares.argmax(axis=1) == Bins(EDGES).index(AGES)
    assert found["ages"] == "argmax"
    assert found["ensemble"]["metrics"]["age_acc.utk7"]["mean"] == pytest.approx(right.mean())


def test_the_table_has_a_row_for_each_member_and_the_ensemble(record_sweep: Any, agr: Agr) -> None:
    trials = Ensembles(record_sweep, said(2), said(3)).ids

    printed = agr("ensemble", *trials).stdout

    rows = [line.split()[0] for line in printed.splitlines() if line and "±" in line]
    assert rows[:3] == [*trials, "ensemble"]
    assert "seed=0" in printed
    assert "onehot" not in printed, "both have it"
    assert "to best member" in printed
    assert "200 images of the part 'test', not over seeds" in " ".join(printed.split())
    narrow = agr("ensemble", *trials, "--cols", "gender_f1").stdout
    assert "gender_f1" in narrow
    assert "age_mae" not in narrow


def test_a_kept_label_and_a_foreign_test_set_have_predictions_of_their_own(record_sweep: Any, agr: Agr) -> None:
    keep = {"gender": Objective(metric="val/gender_acc", direction="maximize")}
    ensembles = Ensembles(lambda: record_sweep(keep=keep), said(2))
    sweep = ensembles.sweep
    other = sweep.trial(5, [9.0, 7.0], params={"seed": 5}, kept_epochs={"gender": 1})
    folder = layout.attempt(sweep.sweep_id, other, 0)
    for epoch, label, seed in ((2, "best", 3), (1, "gender", 4)):
        sweep.read_test(other, {"test/gender_acc": 1.0, "test.far/gender_acc": 1.0}, label)
        for part, more in (("test", 0), ("test.far", 10)):
            sweep.storage.write(layout.predictions(folder, part, epoch), said(seed + more).to_parquet())

    def accuracy(*arguments: str) -> list[float]:
        found = json.loads(agr("ensemble", *arguments, "--json").stdout)
        return [member["metrics"]["gender_acc"]["mean"] for member in found["members"]]

    expected = {seed: accuracy_score(TRUE, said(seed).classes["gender"].predicted) for seed in (2, 3, 4, 13, 14)}
    assert accuracy(ensembles.ids[0], f"{other}@gender") == pytest.approx([expected[2], expected[4]])
    assert accuracy(other, f"{other}@gender") == pytest.approx([expected[3], expected[4]])
    assert accuracy(other, f"{other}@gender", "--part", "test.far") == pytest.approx([expected[13], expected[14]])


# ---- what cannot be averaged


def refused(agr: Agr, *arguments: str) -> str:
    result = agr("ensemble", *arguments, code=2)
    assert result.stdout == ""
    return " ".join(result.stderr.split())


def test_one_trial_or_the_same_twice_is_no_ensemble(record_sweep: Any, agr: Agr) -> None:
    one, _ = Ensembles(record_sweep, said(2), said(3)).ids
    assert "an ensemble takes at least two trials, each once" in refused(agr, one)
    assert "an ensemble takes at least two trials, each once" in refused(agr, one, one[:7])


def test_different_images_are_refused(record_sweep: Any, agr: Agr) -> None:
    fewer = said(3, order=np.arange(150))
    trials = Ensembles(record_sweep, said(2), fewer).ids

    message = refused(agr, *trials)

    assert f"trials {trials[0]} and {trials[1]} were evaluated on different images of the part 'test'" in message
    assert "(200 and 150, 150 of them in both)" in message


def test_other_labels_of_the_same_images_are_refused(record_sweep: Any, agr: Agr) -> None:
    relabelled = said(3)
    relabelled.years["age_low"][:4] += 1
    ensembles = Ensembles(record_sweep, said(2), relabelled)

    assert "have different labels of age for 4 of 200 images" in refused(agr, *ensembles.ids)
    agr("ensemble", *ensembles.ids, "--tasks", "gender")


def test_other_classes_are_refused(record_sweep: Any, agr: Agr) -> None:
    other = said(3)
    swapped = replace(other, classes={"gender": replace(other.classes["gender"], classes=("female", "male"))})
    trials = Ensembles(record_sweep, said(2), swapped).ids
    assert "have different classes of gender: male, female, and female, male" in refused(agr, *trials)


def test_different_tasks_are_refused_and_the_shared_ones_may_be_chosen(record_sweep: Any, agr: Agr) -> None:
    only_age = replace(said(3), classes={})
    trials = Ensembles(record_sweep, said(2), only_age).ids

    message = refused(agr, *trials)

    assert f"predict different tasks ({trials[0]}: age, gender; {trials[1]}: age)" in message
    assert "--tasks age averages what all of them predict" in message
    found = json.loads(agr("ensemble", *trials, "--tasks", "age", "--json").stdout)
    assert found["tasks"] == ["age"]
    assert found["ensemble"]["metrics"].keys() == {"age_mae", "age_acc.utk7"}
    assert "not every trial has predictions of gender" in refused(agr, *trials, "--tasks", "gender")


def test_predictions_of_an_earlier_version_have_no_probabilities(record_sweep: Any, agr: Agr) -> None:
    now = said(3)
    earlier = replace(now, classes={"gender": replace(now.classes["gender"], probabilities=None)}, age_shares=None)
    trials = Ensembles(record_sweep, said(2), earlier).ids

    message = refused(agr, *trials)

    assert f"predictions of trial {trials[1]} have no probabilities of gender: an earlier version" in message
    assert f"`agr rerun {trials[1]}` trains it again" in message


def test_a_part_that_was_not_read_names_the_way_out(record_sweep: Any, agr: Agr) -> None:
    ensembles = Ensembles(record_sweep, said(2), said(3))
    unread = ensembles.sweep.trial(2, [9.0, 7.0], params={"seed": 9})

    message = refused(agr, ensembles.ids[0], unread)

    assert (
        f"trial {unread} of sweep {ensembles.sweep.sweep_id} (outcome: completed) has no stored predictions" in message
    )
    assert "`--part val` averages the predictions of the validation part" in message


def test_an_unknown_column_lists_the_figures(record_sweep: Any, agr: Agr) -> None:
    trials = Ensembles(record_sweep, said(2), said(3)).ids
    message = refused(agr, *trials, "--cols", "gender_acy")
    assert "Did you mean 'gender_acc'?" in message
    assert "--cols ',' given; it takes names with a comma between them" in refused(agr, *trials, "--cols", ",")


@pytest.mark.slow
def test_trained_trials_make_an_ensemble_of_what_they_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The expected figures come from the stored files, read by pandas, and from scikit-learn."""
    monkeypatch.setenv("AGR_HOME", str(tmp_path))
    storage = open_storage(str(tmp_path / "storage"))
    trial: dict[str, Any] = {
        "data": {"source": "synthetic", "synthetic": {"images": 200, "size": 16}, "split": {"strategy": "random"}},
        "tasks": ["age", "gender", "race"],
        "age": {"encoding": "onehot", "bins": "utk7", "decode": "argmax"},
        "image": {"size": 16},
        "model": {"name": "basic_cnn", "conv_layers": 1, "base_features": 2, "hidden": 4},
        "schedule": {"name": "constant", "epochs": 1},
    }
    document = {
        "name": "together",
        "trial": trial,
        "variants": {"small": {}, "other": {"seed": 3}},
        "objective": {"metric": "val/age_mae", "direction": "minimize"},
    }
    sweep = "together-20260101-000000-abcd"
    train_all(storage.uri, sweep, document)
    trials = list(read_state(storage, sweep).trials)

    for part in ("val", "test"):
        result = CliRunner().invoke(app, ["ensemble", *trials, "--part", part, "--json", "--storage", storage.uri])
        assert result.exit_code == 0, result.output
        metrics = json.loads(result.stdout)["ensemble"]["metrics"]
        files = [file for file in (tmp_path / "storage").rglob("*.parquet") if file.name.startswith(f"{part}-0")]
        first, second = (pd.read_parquet(file).set_index("sample_id").sort_index() for file in files)
        for task in ("gender", "race"):
            probabilities = sum(each.filter(like=f"{task}_probability.") for each in (first, second))
            predicted = probabilities.idxmax(axis=1).str.rpartition(".")[2]
            assert metrics[f"{task}_acc"]["mean"] == pytest.approx(accuracy_score(first[task], predicted))
        ages = sum(each.filter(like="age_probability.").to_numpy() for each in (first, second))
        years = Bins.from_spec("utk7").centers[ages.argmax(axis=1)]
        assert metrics["age_mae"]["mean"] == pytest.approx(mean_absolute_error(first["age_low"], years), abs=1e-5)
