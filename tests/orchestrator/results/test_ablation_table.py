"""The paper's table: what a row is, what it is compared with, what it cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from scipy import stats

from agr_core.data.packed.joined import Join, Member
from agr_core.errors import InputError
from orchestrator.cli.render.table_formats import caption
from orchestrator.journal.events import StageReused, StageTrained
from orchestrator.journal.segments import read_state
from orchestrator.results.ablation_table import Table, make_table
from orchestrator.storage import layout

Recorder = Callable[..., Any]
VARIANTS = {"both": {"from": "light", "sampler": "weighted"}, "base": {}, "light": {"augment": "light"}}


def ablation(record_sweep: Recorder, values: dict[str, list[float]], **more: Any) -> Any:
    """A sweep of variants with the best value of each seed, trained in the order given."""
    seeds = max(map(len, values.values()))
    sweep = record_sweep(document={"variants": VARIANTS, "repeat": {"seeds": seeds}}, **more)
    for configuration, (variant, of_variant) in enumerate(values.items()):
        for repeat, value in enumerate(of_variant):
            sweep.trial(
                configuration * seeds + repeat,
                [value + 1.0, value],
                params={"seed": 42 + repeat},
                configuration=configuration,
                repeat=repeat,
                variant=variant,
            )
    return sweep


def table_of(sweep: Any, **more: Any) -> Table:
    return make_table(read_state(sweep.storage, sweep.sweep_id), **more)


def test_rows_are_the_variants_in_the_files_order_each_against_what_it_builds_on(record_sweep: Recorder) -> None:
    sweep = ablation(record_sweep, {"base": [7.0, 8.0], "light": [6.0, 7.0], "both": [6.5, 7.4]})

    found = table_of(sweep)

    assert [(row.label, row.base) for row in found.rows] == [("both", "light"), ("base", None), ("light", "base")]
    assert found.columns[0].metric == "best/age_mae"


def test_a_cell_is_the_mean_over_seeds_and_the_difference_is_taken_seed_by_seed(record_sweep: Recorder) -> None:
    base, light = [7.0, 8.0, 9.5], [6.0, 7.1, 8.4]
    sweep = ablation(record_sweep, {"base": base, "light": light})

    row = next(row for row in table_of(sweep).rows if row.label == "light")

    cell = row.cells["best/age_mae"]
    mean = stats.ttest_1samp(light, 0).confidence_interval()
    paired = stats.ttest_rel(light, base).confidence_interval()
    assert (cell.estimate.low, cell.estimate.high) == pytest.approx(tuple(mean))
    assert cell.difference is not None
    assert (cell.difference.low, cell.difference.high) == pytest.approx(tuple(paired))
    assert cell.verdict == "better"
    assert cell.trials == row.trials
    assert len(row.trials) == 3
    # Seeds that differ by years from each other: unpaired, nothing could be said.
    assert stats.ttest_ind(light, base).pvalue > 0.2


def test_scores_are_better_upwards_and_equal_variants_tie(record_sweep: Recorder) -> None:
    sweep = ablation(record_sweep, {"base": [7.0, 8.0, 9.0], "light": [6.0, 7.1, 8.2], "both": [6.0, 7.1, 8.2]})

    cells = {row.label: row.cells["best/gender_acc"] for row in table_of(sweep, columns=["gender_acc"]).rows}

    assert {label: cell.verdict for label, cell in cells.items()} == {"base": None, "light": "better", "both": "tie"}


def test_a_row_can_be_held_against_any_other(record_sweep: Recorder) -> None:
    sweep = ablation(record_sweep, {"base": [7.0, 8.0], "light": [6.0, 7.0], "both": [5.0, 6.0]})

    found = table_of(sweep, against="base")

    assert [(row.label, row.base) for row in found.rows] == [("both", "base"), ("base", None), ("light", "base")]
    both = found.rows[0].cells["best/age_mae"].difference
    assert both is not None
    assert both.mean == -2.0
    with pytest.raises(InputError, match=r"--against 'bas' is not a row\. Did you mean 'base'\?"):
        table_of(sweep, against="bas")


def test_cost_is_what_all_seeds_spent_and_includes_the_stages_they_trained(record_sweep: Recorder) -> None:
    sweep = ablation(record_sweep, {"base": [7.0, 8.0], "light": [6.0, 7.0]})
    first, second = list(read_state(sweep.storage, sweep.sweep_id).trials)[:2]
    stage = {
        "attempt": 0,
        "stage": "pre",
        "key": "k",
        "weights_sha256": "w",
        "epochs": 5,
        "best_epoch": 4,
        "value": 1.0,
    }
    sweep.record(StageTrained(time=sweep.tick(), trial_id=first, seconds=50.0, **stage))
    sweep.record(StageReused(time=sweep.tick(), trial_id=second, seconds=3.0, **stage))

    costs = {row.label: (row.epochs, row.seconds) for row in table_of(sweep).rows}

    assert costs == {"base": (2 * 2 + 5, 4.0 + 50.0), "light": (4, 4.0)}


def test_trials_that_did_not_complete_are_counted_and_not_averaged(record_sweep: Recorder) -> None:
    sweep = ablation(record_sweep, {"base": [7.0, 8.0], "light": [6.0]})
    sweep.trial(3, [99.0], "diverged", params={"seed": 43}, configuration=1, repeat=1, variant="light")

    row = next(row for row in table_of(sweep).rows if row.label == "light")

    cell = row.cells["best/age_mae"]
    assert (row.completed, row.seeds, len(row.trials), len(cell.trials)) == (1, 2, 2, 1)
    assert (cell.estimate.mean, cell.estimate.margin) == (6.0, None)
    assert cell.difference is not None
    assert (cell.difference.mean, cell.verdict) == (-1.0, None)


def test_a_test_figure_is_of_the_trials_it_was_read_for(record_sweep: Recorder) -> None:
    sweep = ablation(record_sweep, {"base": [7.0, 8.0], "light": [6.0, 7.0]})
    read = list(read_state(sweep.storage, sweep.sweep_id).trials)[1]
    sweep.read_test(read, {"test/age_mae": 8.5})

    base, light = table_of(sweep, columns=["test/age_mae"]).rows

    assert base.cells["test/age_mae"].trials == (read,)
    assert base.cells["test/age_mae"].estimate.mean == 8.5
    assert light.cells == {}


def test_trials_of_different_splits_share_no_table(record_sweep: Recorder) -> None:
    sweep = ablation(record_sweep, {"base": [7.0], "light": [6.0]})
    sweep.trial(2, [5.0], configuration=2, variant="both", split_digest="6" * 64)

    with pytest.raises(
        InputError, match=r"different splits: 55555555 \(2 trials.*66666666 \(1 trials.*are not comparable"
    ):
        table_of(sweep)


def grid(record_sweep: Recorder) -> Any:
    sweep = record_sweep(document={"space": {}, "repeat": {"seeds": 1}})
    for number, (model, rate) in enumerate([("basic_cnn", 0.1), ("basic_cnn", 0.2), ("resnet10t", 0.1)]):
        sweep.trial(number, [number + 5.0], params={"model.name": model, "optimizer.lr": rate})
    return sweep


def test_rows_may_be_fields_of_the_configuration(record_sweep: Recorder) -> None:
    found = table_of(grid(record_sweep), rows=["model.name", "optimizer.lr"], against="basic_cnn, 0.1")

    assert [row.label for row in found.rows] == ["basic_cnn, 0.1", "basic_cnn, 0.2", "resnet10t, 0.1"]
    assert found.rows[2].keys == {"model.name": "resnet10t", "optimizer.lr": 0.1}
    assert found.rows[2].cells["best/age_mae"].difference.mean == 2.0  # type: ignore[union-attr]


def test_a_row_never_mixes_configurations(record_sweep: Recorder) -> None:
    with pytest.raises(InputError, match=r"'basic_cnn' would mix 2 configurations.*--rows model\.name,optimizer\.lr"):
        table_of(grid(record_sweep), rows=["model.name"])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("variant", r"no variants; name what varies instead: --rows model\.name,optimizer\.lr"),
        ("model.nmae", r"no trial has a field 'model\.nmae'\. Did you mean 'model\.name'\?"),
    ],
)
def test_rows_that_are_not_there_are_refused(record_sweep: Recorder, rows: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        table_of(grid(record_sweep), rows=[rows])


def test_an_unknown_metric_and_a_sweep_without_trials_are_refused(record_sweep: Recorder) -> None:
    with pytest.raises(InputError, match=r"'age_mea'\. Did you mean"):
        table_of(ablation(record_sweep, {"base": [7.0]}), columns=["age_mea"])
    with pytest.raises(InputError, match="has no trials yet"):
        table_of(record_sweep("faces-20260104-030405-abcd"))


def on_sources(sweep: Any, number: int, trained_on: str, *, tested: str, value: float) -> None:
    """A trial trained on one of two data sets and tested on a third, whose content is ``tested``."""
    digests = {"imdb": "1" * 64, "wiki": "2" * 64, "utkface": tested}
    join = Join(tuple(Member(name, f"/{name}", digests[name]) for name in (trained_on, "utkface")), races=None)
    sweep.storage.write(layout.join(join.digest), join.to_bytes())
    params = {
        "data.sources": {name: f"/{name}" for name in digests},
        "data.train": [trained_on],
        "data.test": ["utkface"],
    }
    trial = sweep.trial(
        number,
        [value],
        params=params,
        variant="base" if trained_on == "imdb" else "light",
        data_digest=join.digest,
        split_digest=trained_on[0] * 64,
    )
    sweep.read_test(trial, {"test.utkface/age_mae": value + 1.0})


def test_rows_trained_on_different_data_share_a_table_of_what_all_were_tested_on(record_sweep: Recorder) -> None:
    sweep = record_sweep(document={"variants": VARIANTS})
    on_sources(sweep, 0, "imdb", tested="3" * 64, value=7.0)
    on_sources(sweep, 1, "wiki", tested="3" * 64, value=6.0)

    found = table_of(sweep, columns=["age_mae", "test.utkface/age_mae"], storage=sweep.storage)

    assert (found.split_digest, found.shared_parts) == (None, ("test.utkface",))
    base, light = found.rows
    assert [base.cells[name].estimate.mean for name in ("best/age_mae", "test.utkface/age_mae")] == [7.0, 8.0]
    difference = light.cells["test.utkface/age_mae"].difference
    assert difference is not None
    assert difference.mean == -1.0
    assert light.cells["best/age_mae"].difference is None, "each row's own val part"
    assert "test.utkface of the same images for all" in caption(found)
    with pytest.raises(InputError, match=r"choose metrics of the shared data, test\.utkface, with --cols"):
        table_of(sweep, columns=["age_mae"], storage=sweep.storage)


def test_a_test_set_of_the_same_name_and_other_content_is_not_shared(record_sweep: Recorder) -> None:
    sweep = record_sweep(document={"variants": VARIANTS})
    on_sources(sweep, 0, "imdb", tested="3" * 64, value=7.0)
    on_sources(sweep, 1, "wiki", tested="4" * 64, value=6.0)

    with pytest.raises(InputError, match=r"different splits: .*submit a sweep for each split"):
        table_of(sweep, columns=["test.utkface/age_mae"], storage=sweep.storage)


def test_a_stages_test_figures_are_a_column_of_what_starts_from_it(record_sweep: Recorder) -> None:
    sweep = ablation(record_sweep, {"base": [7.0], "light": [6.0]})
    trial = list(read_state(sweep.storage, sweep.sweep_id).trials)[1]
    obtained = {"attempt": 0, "stage": "pre", "key": "k", "weights_sha256": "w", "epochs": 1, "best_epoch": 1}
    figures = {"test/gender_acc": 0.97}
    event = StageTrained(time=sweep.tick(), trial_id=trial, seconds=1.0, value=0.1, metrics=figures, **obtained)
    sweep.record(event)

    base, light = table_of(sweep, columns=["stage.pre.test/gender_acc"]).rows

    assert light.cells["stage.pre.test/gender_acc"].estimate.mean == 0.97
    assert base.cells == {}
