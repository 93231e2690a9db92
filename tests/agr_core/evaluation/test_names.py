"""Metric names, as `agr validate` and the tracker use them before anything is trained."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from agr_core.bins import SCHEMES
from agr_core.config import AgeConfig, TrialConfig, extra_age_metrics
from agr_core.evaluation.names import (
    REPORTING_SCHEMES,
    allowed_schemes,
    better_direction,
    fair_metrics,
    group_classes,
    headline_metrics,
    is_of_the_machine,
    metric_names,
    own_bin_metrics,
)
from agr_core.labels.attributes import Vocabulary
from agr_core.objective import Objective
from orchestrator.tracking.base import MetricPoint

ADIENCE_RANGES = [(0, 2), (4, 6), (8, 12), (15, 20), (25, 32), (38, 43), (48, 53), (60, 100)]
ENCODINGS = [get_args(age.model_fields["encoding"].annotation)[0] for age in get_args(get_args(AgeConfig)[0])]


def config_of(encoding: str = "onehot", tasks: tuple[str, ...] = ("age", "gender", "race")) -> TrialConfig:
    return TrialConfig.from_document({"tasks": list(tasks), "age": {"encoding": encoding}})


def test_names_import_neither_torch_nor_pandas() -> None:
    heavy = "{'torch', 'pandas', 'matplotlib', 'sklearn'}"
    code = f"import sys, agr_core.evaluation.names; sys.exit(str({heavy} & set(sys.modules) or ''))"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stderr.strip() == ""


def test_exact_ages_allow_every_reporting_scheme_and_ranges_those_that_cut_none() -> None:
    assert allowed_schemes("exact", []) == REPORTING_SCHEMES
    assert allowed_schemes("range", ADIENCE_RANGES) == ("adience8",)


def test_names_of_data_that_was_not_read_yet_are_those_of_both_kinds() -> None:
    config = config_of()
    assert metric_names(config, None) == metric_names(config, "exact") | metric_names(config, "range")
    assert "val/age_mae" in metric_names(config, "exact") - metric_names(config, "range")
    assert "val/age_interval_mae" in metric_names(config, "range") - metric_names(config, "exact")


def test_only_predicted_tasks_have_metrics() -> None:
    figures = {name.split("/")[1].partition(".")[0] for name in metric_names(config_of(tasks=("gender",)), None)}
    assert not {name for name in figures if name.startswith(("age_", "race_"))}


@pytest.mark.parametrize("kind", ["exact", "range", None])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_reports_all_fair_metrics(encoding: str, kind: Any) -> None:
    names = metric_names(config_of(encoding), kind)
    assert set(fair_metrics(kind)) <= names
    assert not set(fair_metrics(kind)) & own_bin_metrics()


def test_what_depends_on_the_bins_is_named_unfair() -> None:
    assert {"val/age_acc", "val/age_f1", "val/age_loss", "val/loss"} <= own_bin_metrics()
    binned, regression = (metric_names(config_of(encoding), "exact") for encoding in ("onehot", "regression"))
    assert binned - regression <= own_bin_metrics()
    assert own_bin_metrics() - {f"val/{name}" for name in extra_age_metrics()} <= binned
    assert {"age_acc_exact_vector", "age_gender_acc"} <= extra_age_metrics()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", ["exact", "range"])
def test_about_fifteen_metrics_make_the_headlines_and_all_of_them_can_occur(encoding: str, kind: Any) -> None:
    config = config_of(encoding)
    headlines = headline_metrics(config, [Objective(metric="val/age_acc1off.utk4", direction="maximize")])
    assert headlines[0] == "val/age_acc1off.utk4"
    assert len(set(headlines)) == len(headlines)
    assert set(headlines) <= metric_names(config, None)
    assert 12 <= len(set(headlines) & metric_names(config, kind)) <= 19


def test_an_objective_among_the_headlines_is_not_named_twice() -> None:
    headlines = headline_metrics(config_of(), [Objective(metric="val/age_mae", direction="minimize")])
    assert headlines.count("val/age_mae") == 1
    assert headlines[0] == "val/age_mae"


def test_a_learning_rate_that_changes_is_a_headline() -> None:
    objective = Objective(metric="val/age_mae", direction="minimize")
    for schedule, shown in (("constant", False), ("cosine", True)):
        config = TrialConfig.from_document({"schedule": schedule})
        assert ("train/lr" in headline_metrics(config, [objective])) == shown
        assert "train/lr" in metric_names(config, None)


def test_the_documentation_explains_every_scheme_encoding_and_metric() -> None:
    words = (Path(__file__).parents[3] / "docs" / "labels.md").read_text(encoding="utf-8")
    names = frozenset.union(*(metric_names(config_of(encoding), None) for encoding in ENCODINGS))
    metrics = {name.split("/")[1] for name in names if not is_of_the_machine(name)}
    general = {_in_general(name) for name in metrics}
    assert [name for name in sorted({*general, *SCHEMES, *ENCODINGS}) if f"`{name}`" not in words] == []


def _in_general(metric: str) -> str:
    name = re.sub(r"\.(gap_)?by_.*", r".\1by_<group>", metric)
    name = re.sub(r"^gender_(\w+)\.(fe)?male$", r"gender_\1.<class>", name)
    name = re.sub(r"\.(utk7a?|utk4|adience8|fairface9)", ".<scheme>", name)
    if name.endswith("<group>"):
        return name.rsplit(".", 1)[1]
    return re.sub(r"^(gender|race)_", "<task>_", name) if "<class>" not in name else name


@pytest.mark.parametrize(
    ("metric", "direction"),
    [
        ("val/age_mae.by_race.White", "minimize"),
        ("best/age_acc.utk7.by_gender.male", "maximize"),
        ("age_acc.utk7.gap_by_gender", "minimize"),
        ("val/gender_f1.female", "maximize"),
        ("val/age_acc_exact_vector", "maximize"),
        ("val/age_acc_per_head", "maximize"),
        ("val/gender_constancy", "minimize"),
        ("time/epoch_s", "minimize"),
        ("time/images_per_s", "maximize"),
        ("memory/main_gb", "minimize"),
        ("images.by_age.66-116", None),
        ("val/race_majority", None),
    ],
)
def test_which_direction_is_better_is_known_of_scores_errors_and_gaps(metric: str, direction: str | None) -> None:
    assert better_direction(metric) == direction


def test_groups_have_names_that_mlflow_takes() -> None:
    vocabulary = Vocabulary(genders=("male", "female"), races=("White", "Latino/Hispanic (any)"))
    assert group_classes(vocabulary, "utk4") == {
        "race": ("White", "Latino_Hispanic _any_"),
        "gender": ("male", "female"),
        "age": ("0-12", "13-19", "20-59", "60-116"),
    }
    assert group_classes(Vocabulary((), ()), None) == {}
    for name in metric_names(config_of(), None):
        MetricPoint(name, 1.0, 1, 0.0)  # raises on a name that MLflow refuses
