from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import SpecError
from orchestrator.spec.load import Sweep, load_sweep, sweep_from_document
from orchestrator.spec.model import AshaSpec, NoScheduler

SWEEPS = Path(__file__).parents[3] / "sweeps"
OBJECTIVE = {"metric": "val/age_mae", "direction": "minimize"}


def sweep(**more: Any) -> Sweep:
    return sweep_from_document({"name": "test", "objective": OBJECTIVE, **more})


def problems(**more: Any) -> list[str]:
    with pytest.raises(SpecError) as caught:
        sweep(**more)
    return [f"{problem.path}: {problem.message}" for problem in caught.value.problems]


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "sweep.yaml"
    file.write_text(text, encoding="utf-8")
    return file


MINIMAL = "name: minimal\nobjective: {metric: val/age_mae, direction: minimize}\n"


# --- the examples of the repository --------------------------------------------------------------------------------


@pytest.mark.parametrize("file", sorted(SWEEPS.glob("**/*.yaml")), ids=lambda file: file.stem)
def test_every_sweep_of_the_repository_loads_without_warnings(file: Path) -> None:
    loaded = load_sweep(file)
    assert loaded.warnings == ()
    assert sweep_from_document(loaded.document).space == loaded.space


@pytest.mark.parametrize("file", sorted(SWEEPS.glob("**/*.yaml")), ids=lambda file: file.stem)
def test_every_sweep_of_the_repository_says_what_to_expect_at_what_cost(file: Path) -> None:
    comment = file.read_text().partition("\nname:")[0]
    assert "minute" in comment
    assert "Expect" in comment


# --- defaults ------------------------------------------------------------------------------------------------------


def test_a_name_and_an_objective_are_a_sweep_of_one_trial() -> None:
    minimal = sweep()
    assert minimal.space.size() == 1
    assert minimal.spec.search is not None
    assert (minimal.spec.search.algorithm, minimal.spec.search.trials) == ("grid", 1)
    assert minimal.spec.scheduler == NoScheduler(name="none")
    assert (minimal.spec.retries, minimal.spec.concurrency, minimal.spec.budget.wall) == (3, None, None)


def test_variants_alone_are_each_tried_once() -> None:
    ablation = sweep(
        variants={"base": {}, "light": {"augment": "light"}, "both": {"from": "light", "sampler": "weighted"}}
    )
    assert ablation.spec.search is not None
    assert (ablation.spec.search.algorithm, ablation.spec.search.trials) == ("grid", 3)
    built = [ablation.space.build(lambda name, _, p=point: p[name]) for point in ablation.space.points()]
    assert [(proposal.variant, proposal.config.augment.name, proposal.config.sampler.name) for proposal in built] == [
        ("base", "none", "shuffle"),
        ("light", "light", "shuffle"),
        ("both", "light", "weighted"),
    ]


def test_variants_with_space_are_each_tried_with_each_point() -> None:
    assert sweep(variants={"a": {}, "b": {"batch_size": 8}}, space={"image": {"size": [48, 64]}}).space.size() == 4


def test_a_continuous_space_needs_a_search() -> None:
    found = problems(space={"optimizer": {"name": "adam", "lr": {"loguniform": [1e-4, 1e-2]}}})
    assert found == [
        "search: missing; optimizer.lr has infinitely many values, so give a search: "
        "search: {algorithm: tpe, trials: 20}."
    ]


def test_max_epochs_is_the_most_that_any_trial_may_train() -> None:
    space = {"schedule": [{"name": "constant", "epochs": {"randint": [2, 9]}}, {"name": "cosine", "epochs": 4}]}
    assert sweep(space=space).max_epochs == 9


@pytest.mark.parametrize(
    ("wall", "seconds"),
    [("90s", 90), ("20m", 1200), ("1h30m", 5400), ("1.5h", 5400), ("2h1m1s", 7261), (45, 45), (0.5, 0.5)],
)
def test_durations(wall: str | float, seconds: float) -> None:
    assert sweep(budget={"wall": wall}).spec.budget.wall == seconds


@pytest.mark.parametrize("wall", ["", "20", "m", "20m1h", "-5m", "0s", 0, -3, True, "1d", "\u0663m"])
def test_what_is_no_duration_is_refused(wall: Any) -> None:
    assert [found.partition(":")[0] for found in problems(budget={"wall": wall})] == ["budget.wall"]


@pytest.mark.parametrize(
    "scheduler", ["asha", {"name": "asha"}, {"name": "asha", "grace_epochs": 1, "reduction_factor": 3}]
)
def test_a_bare_word_stands_for_a_scheduler(scheduler: Any) -> None:
    assert sweep(scheduler=scheduler, trial={"schedule": {"name": "constant", "epochs": 5}}).spec.scheduler == AshaSpec(
        name="asha", grace_epochs=1, reduction_factor=3
    )


def test_rungs_are_below_the_last_epoch() -> None:
    asha = AshaSpec(name="asha", grace_epochs=2, reduction_factor=3)
    assert asha.rungs(54) == (2, 6, 18)
    assert asha.rungs(55) == (2, 6, 18, 54)
    assert asha.rungs(2) == ()


# --- lists and choices ---------------------------------------------------------------------------------------------


def test_a_list_in_space_is_a_choice_except_where_the_field_takes_it() -> None:
    checked = sweep(
        space={
            "batch_size": [16, 32],
            "data": {"split": {"by": ["age", "gender"], "fractions": [0.7, 0.2, 0.1]}},
            "age": {"encoding": "onehot", "bins": [0, 13, 20, 60]},
            "optimizer": {"name": "adam", "betas": [0.8, 0.99]},
            "head": {"hidden": [64, 32]},
        }
    )
    assert [varied.name for varied in checked.space.domains()] == ["batch_size"]
    config = checked.space.build(lambda *_: 16).config
    assert config.age.encoding == "onehot"
    assert config.age.bins == (0, 13, 20, 60)
    assert config.data.split.by == ("age", "gender")
    assert config.head.hidden == (64, 32)


def test_bins_are_a_choice_where_their_items_are_bins() -> None:
    space = sweep(space={"age": {"encoding": "onehot", "bins": ["utk7", [0, 13, 20]]}}).space
    assert [varied.domain.choices for varied in space.domains()] == [("utk7", "[0, 13, 20]")]


def test_a_list_field_varies_by_choice() -> None:
    space = sweep(space={"optimizer": {"name": "adam", "betas": {"choice": [[0.9, 0.99], [0.8, 0.999]]}}}).space
    betas = [space.build(lambda *_, p=point: p["optimizer.betas"]).config.optimizer for point in space.points()]
    assert [optimizer.model_dump()["betas"] for optimizer in betas] == [(0.9, 0.99), (0.8, 0.999)]


def test_a_branch_keeps_what_the_trial_says_of_the_same_component() -> None:
    space = sweep(
        trial={"optimizer": {"name": "sgd", "lr": 0.5, "momentum": 0.9}},
        space={"optimizer": [{"name": "sgd", "momentum": 0.8}, "adam"]},
    ).space
    sgd, adam = (space.build(lambda *_, p=point: p["optimizer"]).config.optimizer for point in space.points())
    assert (sgd.name, sgd.lr, sgd.model_dump()["momentum"]) == ("sgd", 0.5, 0.8)
    assert (adam.name, adam.lr) == ("adam", 1e-3)


def test_the_space_lies_over_the_variant() -> None:
    space = sweep(
        trial={"batch_size": 8, "image": {"size": 32}},
        variants={"a": {"batch_size": 16, "image": {"size": 48}}},
        space={"batch_size": [32, 64]},
    ).space
    config = space.build(lambda name, domain: domain.nth(0)).config
    assert (config.batch_size, config.image.size) == (32, 48)


# --- checks --------------------------------------------------------------------------------------------------------


def test_each_value_is_checked_on_its_own_variant() -> None:
    found = problems(
        variants={"cnn": {"model": "basic_cnn"}, "timm": {"model": "resnet10t"}},
        space={"model": {"dropout": [0.1, 0.2]}},
    )
    assert len(found) == 1
    assert found[0].startswith("space.model.dropout: unknown field. It is a field of basic_cnn")


def test_an_item_of_a_list_is_named_by_its_number() -> None:
    phases = [{"from_epoch": 1, "weights": {}}, {"from_epoch": 2, "weights": {"gendr": 1, "age": -1}}]
    negative, unknown = problems(trial={"loss": {"phases": phases}})
    assert negative == "trial.loss.phases[1].weights.age: -1 given; it must be at least 0."
    assert unknown.startswith("trial.loss.phases[1].weights.gendr: unknown field. Did you mean 'gender'? Known: age,")


@pytest.mark.parametrize(
    ("metric", "space", "varied"),
    [
        ("val/age_loss", {"age": {"encoding": "label_distribution", "sigma": [1.0, 2.0]}}, "age.sigma"),
        ("val/loss", {"loss": {"weights": {"gender": [0.5, 2.0]}}}, "loss.weights.gender"),
        ("val/loss", {"tasks": {"choice": [["age"], ["age", "race"]]}}, "tasks"),
        ("val/age_loss", {"age": {"encoding": "onehot", "decode": ["argmax", "median"]}}, None),
        ("val/gender_loss", {"loss": {"weights": {"gender": [0.5, 2.0]}}}, None),
    ],
)
def test_a_loss_whose_scale_varies_is_no_objective(metric: str, space: dict[str, Any], varied: str | None) -> None:
    objective = {"metric": metric, "direction": "minimize"}
    if varied is None:
        sweep(objective=objective, space=space)
        return
    found = problems(objective=objective, space=space)
    assert len(found) == 1
    assert f"{metric} has a different scale for each value of {varied}, which this sweep varies" in found[0]


def test_what_the_space_always_replaces_is_checked_too() -> None:
    found = problems(trial={"optimizer": {"name": "sgd", "momentm": 1}}, space={"optimizer": ["adam", "nadam"]})
    assert [text.partition(".")[0] for text in found] == ["trial"]


def test_a_partial_component_is_right_if_the_space_completes_it() -> None:
    assert (
        sweep(trial={"optimizer": {"lr": 0.1}}, space={"optimizer": [{"name": "sgd"}, {"name": "adam"}]}).space.size()
        == 2
    )


def test_two_values_that_never_go_together_are_found_in_a_large_space() -> None:
    found = problems(
        search={"algorithm": "random", "trials": 5},
        space={
            "image": {"size": {"randint": [16, 96]}},
            "model": {"name": "basic_cnn", "conv_layers": {"randint": [1, 5]}},
            "optimizer": {"name": "adam", "lr": {"loguniform": [1e-4, 1e-2]}},
            "data": {"split": {"seed": {"randint": [0, 1000000]}}},
        },
    )
    assert len(found) == 1
    assert "image.size=16 is too small for model.conv_layers=5" in found[0]


def test_bins_of_equal_edges_do_not_vary() -> None:
    variants = {
        "named": {"age": {"encoding": "onehot", "bins": "utk4"}},
        "listed": {"age": {"encoding": "onehot", "bins": [0, 13, 20, 60]}},
    }
    assert sweep(variants=variants, objective={"metric": "val/age_acc", "direction": "maximize"}).space.size() == 2


def test_without_age_the_loss_may_be_the_objective_whatever_the_encoding() -> None:
    age = [{"encoding": "onehot"}, {"encoding": "regression"}]
    objective = {"metric": "val/loss", "direction": "minimize"}
    assert sweep(trial={"tasks": ["gender"]}, space={"age": age}, objective=objective).space.size() == 2


def test_an_unfair_objective_is_answered_with_the_fair_ones() -> None:
    found = problems(
        space={"age": {"encoding": "onehot", "bins": ["utk7", "utk4"]}},
        objective={"metric": "val/age_f1", "direction": "maximize"},
    )
    assert len(found) == 1
    for fair in ("val/age_mae", "val/age_cs5", "val/age_f1.utk7", "val/age_f1.adience8"):
        assert fair in found[0]


def test_data_of_unknown_labels_may_be_judged_by_either_error() -> None:
    for metric in ("val/age_mae", "val/age_interval_mae"):
        assert sweep(trial={"data": {"source": "faces.tar"}}, objective={"metric": metric, "direction": "minimize"})
    found = problems(objective={"metric": "val/age_interval_mae", "direction": "minimize"})
    assert "Did you mean 'val/age_mae'?" in found[0], "drawn faces have exact ages"


@pytest.mark.parametrize(
    ("metric", "direction", "warned"),
    [
        ("val/age_mae", "maximize", True),
        ("val/loss", "maximize", True),
        ("val/gender_acc", "minimize", True),
        ("val/age_f1.utk7", "minimize", True),
        ("val/age_cs5", "minimize", True),
        ("val/age_mae", "minimize", False),
        ("val/age_acc1off.utk7", "maximize", False),
    ],
)
def test_a_direction_against_the_metric_is_warned_of(metric: str, direction: str, warned: bool) -> None:
    warnings = sweep(objective={"metric": metric, "direction": direction}).warnings
    assert [metric in warning for warning in warnings] == [True] * warned


def test_early_stopping_against_its_metric_is_warned_of() -> None:
    warnings = sweep(trial={"early_stopping": {"metric": "val/gender_acc"}}).warnings
    assert len(warnings) == 1
    assert "early_stopping has direction minimize for val/gender_acc" in warnings[0]


def test_asha_that_can_stop_nothing_is_warned_of() -> None:
    trial = {"schedule": {"name": "constant", "epochs": 4}}
    assert sweep(trial=trial, scheduler={"name": "asha", "grace_epochs": 3}).warnings == ()
    assert "no trial is stopped early" in sweep(trial=trial, scheduler={"name": "asha", "grace_epochs": 4}).warnings[0]


@pytest.mark.parametrize(
    ("scheduler", "age", "warned"),
    [
        ({"name": "asha", "grace_epochs": 1}, [{"encoding": "regression"}, {"encoding": "onehot"}], True),
        ({"name": "asha", "grace_epochs": 2}, [{"encoding": "regression"}, {"encoding": "onehot"}], False),
        ({"name": "hyperband", "grace_epochs": 1}, [{"encoding": "regression"}, {"encoding": "onehot"}], False),
        ({"name": "asha", "grace_epochs": 1}, {"encoding": "onehot", "bins": ["utk7", "every2"]}, False),
    ],
)
def test_stopping_after_one_epoch_is_warned_of_where_encodings_vary(
    scheduler: dict[str, Any], age: Any, warned: bool
) -> None:
    found = sweep(
        trial={"schedule": {"name": "constant", "epochs": 4}},
        space={"age": age},
        search={"algorithm": "grid"},
        scheduler=scheduler,
        objective={"metric": "val/age_mae", "direction": "minimize"},
    )
    shown = ["age.encoding varies (onehot, regression)" in warning for warning in found.warnings]
    assert shown == [True] * warned


def test_more_trials_than_points_are_warned_of() -> None:
    space = {"batch_size": [8, 16]}
    assert "the space has 2 points" in sweep(space=space, search={"algorithm": "tpe", "trials": 3}).warnings[0]
    assert sweep(space=space, search={"algorithm": "tpe", "trials": 2}).warnings == ()


def test_repeat_takes_random_grid_or_variants() -> None:
    space = {"batch_size": [8, 16]}
    for search in (None, {"algorithm": "grid"}, {"algorithm": "random", "trials": 2}):
        assert sweep(space=space, repeat={"seeds": 2}, **({} if search is None else {"search": search})).spec.repeat


def test_a_grid_too_large_to_try_is_refused() -> None:
    found = problems(space={"data": {"split": {"seed": {"randint": [0, 10**7]}}}})
    assert len(found) == 1
    assert "10,000,001 points" in found[0]


def test_a_secret_is_not_echoed(tmp_path: Path) -> None:
    file = Path(__file__).parent / "broken" / "secrets.yaml"
    overrides = ["trial.data.source=https://u:hunter2hunter2@h/x", "tags.0=AKIAIOSFODNN7EXAMPLE"]
    for arguments in ([], overrides):
        with pytest.raises(SpecError) as caught:
            load_sweep(file, overrides=arguments)
        assert "hunter2" not in str(caught.value)
        assert "IOSFODNN7" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "s3://minio:hunter/2+hunter2@bucket/faces",
        "postgresql://ann:hun#ter?2hunter2@host/db",
        "https://host/faces.tar?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=hunter2hunter2",
        "https://account.blob.core.windows.net/faces?sv=2024-11-04&sig=hunter2hunter2",
    ],
)
@pytest.mark.parametrize("path", ["trial.data.source", "description"])
def test_addresses_that_let_whoever_reads_them_in_are_secrets(path: str, text: str) -> None:
    file = Path(__file__).parents[3] / "sweeps" / "quickstart.yaml"
    with pytest.raises(SpecError, match="looks like a secret") as caught:
        load_sweep(file, overrides=[f"{path}='{text}'"])
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "s3://agr/utkface-8k",
        "https://example.org:8080/faces.tar",
        "https://example.org:8080/faces@home.tar",
        "C:\\faces.tar",
        "a@b.tar",
    ],
)
def test_ordinary_sources_are_no_secrets(source: str) -> None:
    assert sweep(trial={"data": {"source": source}})


def test_drawn_faces_with_age_ranges_are_known_to_report_the_distance_to_the_range() -> None:
    trial = {"data": {"synthetic": {"like": "adience"}}, "age": {"encoding": "onehot", "bins": "adience8"}}
    assert sweep(trial=trial, objective={"metric": "val/age_interval_mae", "direction": "minimize"})
    found = problems(trial=trial, objective={"metric": "val/age_mae", "direction": "minimize"})
    assert "'val/age_mae' is not a validation metric" in found[0]
    assert "val/age_interval_mae" in found[0]
