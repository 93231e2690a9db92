"""Configurations compared over the seeds and the images that both had."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from agr_core.errors import IntegrityError
from agr_core.evaluation.predictions import Classified, Predictions
from agr_core.objective import Objective
from orchestrator.journal.segments import read_state
from orchestrator.results.ablation_table import make_table
from orchestrator.results.leaderboard import rows
from orchestrator.results.paired import Figure, Pairing
from orchestrator.stats.intervals import crossed_mean
from orchestrator.storage import layout

Recorder = Callable[..., Any]
IMAGES = 40
AGES = np.random.default_rng(0).integers(5, 80, IMAGES).astype(np.float32)


def said(errors: Any, order: Any = None) -> Predictions:
    """Predictions that are off by so many years, of images in some order."""
    order = np.arange(IMAGES) if order is None else order
    gender = np.arange(IMAGES) % 2
    return Predictions(
        sample_ids=tuple(f"{number:016x}" for number in order),
        years={
            "age_low": AGES[order],
            "age_high": AGES[order],
            "age_predicted": (AGES + np.asarray(errors, dtype=np.float32))[order],
        },
        classes={"gender": Classified(("male", "female"), gender[order], gender[order])},
    )


def mean_error(errors: Any) -> float:
    predicted = (AGES + np.asarray(errors, dtype=np.float32)).astype(np.float64)
    return float(np.abs(predicted - AGES).mean())


class Study:
    """Trials with predictions: two variants, some seeds."""

    def __init__(self, record_sweep: Recorder, seeds: int = 3, effect: float = -0.5, **more: Any) -> None:
        document = {"variants": {"base": {}, "light": {"augment": "light"}}, "repeat": {"seeds": seeds}}
        self.sweep = record_sweep(document=document, **more)
        random = np.random.default_rng(5)
        hard = random.uniform(4, 9, IMAGES)
        self.errors: dict[tuple[str, int], Any] = {}
        self.trials: dict[tuple[str, int], str] = {}
        for configuration, (variant, better) in enumerate([("base", 0.0), ("light", effect)]):
            for repeat in range(seeds):
                errors = hard + better + random.normal(0, 0.5, IMAGES) + 0.1 * repeat
                self.errors[variant, 42 + repeat] = errors
                self.trials[variant, 42 + repeat] = self.sweep.trial(
                    configuration * seeds + repeat,
                    [mean_error(errors) + 1, mean_error(errors)],
                    params={"seed": 42 + repeat},
                    configuration=configuration,
                    repeat=repeat,
                    variant=variant,
                )

    def keep(self, variant: str, seed: int, predictions: Predictions | None = None, part: str = "val") -> None:
        folder = layout.attempt(self.sweep.sweep_id, self.trials[variant, seed], 0)
        content = (predictions or said(self.errors[variant, seed])).to_parquet()
        self.sweep.storage.write(layout.predictions(folder, part, 2), content)

    def keep_all(self) -> Study:
        for variant, seed in self.trials:
            self.keep(variant, seed)
        return self

    @property
    def state(self) -> Any:
        return read_state(self.sweep.storage, self.sweep.sweep_id)

    def cell(self, metric: str = "age_mae", *, storage: bool = True) -> Any:
        table = make_table(self.state, columns=[metric], storage=self.sweep.storage if storage else None)
        [cell] = table.rows[1].cells.values()
        return cell

    def by_hand(self) -> Any:
        seeds = sorted({seed for _, seed in self.errors})
        differences = [np.abs(self.errors["light", s]) - np.abs(self.errors["base", s]) for s in seeds]
        return crossed_mean(np.array(differences))


def test_the_difference_is_over_seeds_and_images(record_sweep: Recorder) -> None:
    study = Study(record_sweep).keep_all()

    found = study.cell().difference

    expected = study.by_hand()
    assert (found.mean, found.margin) == pytest.approx((expected.mean, expected.margin), abs=1e-5)
    assert (found.count, found.images) == (3, IMAGES)
    assert study.cell().verdict == "better"
    assert found.to_json()["images"] == IMAGES
    alone = study.cell(storage=False).difference
    assert (alone.images, alone.mean) == (None, pytest.approx(found.mean))
    assert alone.margin <= found.margin


def test_images_are_matched_by_their_ids_in_any_order(record_sweep: Recorder) -> None:
    study = Study(record_sweep).keep_all()
    before = study.cell().difference
    shuffled = np.random.default_rng(1).permutation(IMAGES)
    for seed in (42, 43, 44):
        study.keep("light", seed, said(study.errors["light", seed], shuffled))

    after = study.cell().difference

    assert (after.mean, after.margin) == pytest.approx((before.mean, before.margin))


def test_where_one_trial_keeps_no_predictions_it_is_over_seeds_alone(record_sweep: Recorder) -> None:
    study = Study(record_sweep).keep_all()
    folder = layout.attempt(study.sweep.sweep_id, study.trials["base", 43], 0)
    study.sweep.storage.delete(layout.predictions(folder, "val", 2))

    assert study.cell().difference == study.cell(storage=False).difference


def test_a_figure_that_predictions_do_not_tell_is_compared_over_seeds_alone(record_sweep: Recorder) -> None:
    study = Study(record_sweep).keep_all()
    assert study.cell("loss").difference == study.cell("loss", storage=False).difference


def test_one_seed_gives_no_interval(record_sweep: Recorder) -> None:
    found = Study(record_sweep, seeds=1).keep_all().cell()
    assert (found.difference.margin, found.verdict) == (None, None)


def test_predictions_that_are_not_those_of_the_journal_are_refused(record_sweep: Recorder) -> None:
    study = Study(record_sweep).keep_all()
    study.keep("light", 43, said(study.errors["light", 43] + 0.01))

    with pytest.raises(IntegrityError, match=rf"{study.trials['light', 43]} reported best/age_mae .* was changed"):
        study.cell()


def test_test_figures_take_the_predictions_of_the_test_part(record_sweep: Recorder) -> None:
    study = Study(record_sweep).keep_all()
    harder = {key: errors + 3 for key, errors in study.errors.items()}
    for key, trial in study.trials.items():
        study.sweep.read_test(trial, {"test/age_mae": mean_error(harder[key])})
        study.keep(*key, said(harder[key]), part="test")

    assert study.cell("test/age_mae").difference.images == IMAGES


def test_a_weighted_objective_is_the_sum_of_what_each_image_adds(record_sweep: Recorder) -> None:
    objective = Objective(metric={"val/age_mae": 2.0, "val/gender_acc": 1.0}, direction="minimize")
    study = Study(record_sweep, objective=objective).keep_all()
    pairing = Pairing([study.state], study.sweep.storage)

    def figures(variant: str) -> dict[int, Figure]:
        return {
            seed: Figure(study.sweep.sweep_id, study.trials[variant, seed], 2 * mean_error(errors) + 1.0)
            for (which, seed), errors in study.errors.items()
            if which == variant
        }

    found = pairing.difference("best/objective", figures("light"), figures("base"))

    expected = study.by_hand()
    assert found is not None
    assert (found.mean, found.margin) == pytest.approx((2 * expected.mean, 2 * expected.margin), abs=1e-5)


def confirmed(record_sweep: Recorder, effect: float, noise: float = 0.2) -> Any:
    """Two configurations, each confirmed with three fresh seeds; the second differs by ``effect`` years."""
    document = {"search": {"algorithm": "grid"}, "confirm": {"top": 2, "seeds": 3}}
    sweep = record_sweep(document=document)
    random = np.random.default_rng(9)
    hard = random.uniform(4, 9, IMAGES)
    originals = [sweep.trial(n, [9.0, 8.0 + n], params={"batch_size": size}) for n, size in enumerate((16, 32))]
    for number, (which, seed) in enumerate([(which, seed) for seed in (1, 2, 3) for which in (0, 1)], start=2):
        errors = hard + effect * which + random.normal(0, noise, IMAGES)
        trial = sweep.trial(
            number,
            [mean_error(errors) + 1, mean_error(errors)],
            params={"batch_size": (16, 32)[which], "seed": seed},
            configuration=which,
            repeat=seed - 1,
            confirms=originals[which],
        )
        folder = layout.attempt(sweep.sweep_id, trial, 0)
        sweep.storage.write(layout.predictions(folder, "val", 2), said(errors).to_parquet())
    return sweep


@pytest.mark.parametrize(("effect", "verdict"), [(0.0, "tie"), (0.5, "worse")])
def test_the_leaderboard_compares_the_confirmed_over_seeds_and_images(
    record_sweep: Recorder, effect: float, verdict: str
) -> None:
    sweep = confirmed(record_sweep, effect)

    found = rows([read_state(sweep.storage, sweep.sweep_id)], storage=sweep.storage)

    second = next(row for row in found if row.rank == 2)
    assert second.difference is not None
    assert (second.against_first, second.difference.count, second.difference.images) == (verdict, 3, IMAGES)
    assert second.to_json()["difference"]["images"] == IMAGES


def test_confirmed_configurations_that_differ_by_the_same_under_every_seed_are_not_told_apart(
    record_sweep: Recorder,
) -> None:
    sweep = confirmed(record_sweep, 0.5, noise=0.0)

    found = rows([read_state(sweep.storage, sweep.sweep_id)], storage=sweep.storage)

    second = next(row for row in found if row.rank == 2)
    assert second.difference is not None
    assert (second.difference.mean, second.difference.margin) == (pytest.approx(0.5), None)
    assert (second.against_first, second.note) == (None, "confirmed, no interval")


def test_the_figures_of_a_confirmed_row_are_means_over_its_fresh_seeds(record_sweep: Recorder) -> None:
    sweep = confirmed(record_sweep, 0.5)
    state = read_state(sweep.storage, sweep.sweep_id)

    first = rows([state])[0]

    fresh = [row.metrics["best/gender_acc"] for row in rows([state]) if row.rank == 1 and row.confirms is not None]
    assert len(set(fresh)) == 3
    assert first.means["best/gender_acc"].mean == pytest.approx(np.mean(fresh))
    assert first.means["best/age_mae"].mean == first.mean
    document = first.to_json()
    assert document["ranked_by"] == "mean of fresh seeds"
    assert document["means"]["best/gender_acc"]["count"] == 3
