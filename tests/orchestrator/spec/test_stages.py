from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agr_core.config import TrialConfig
from orchestrator.errors import SpecError
from orchestrator.spec.load import Sweep, sweep_from_document
from orchestrator.spec.preview import sample
from orchestrator.spec.preview import stages as rows

TRIAL: dict[str, Any] = {
    "model": {"name": "basic_cnn", "conv_layers": 2},
    "image": {"size": 32},
    "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9},
    "schedule": {"name": "constant", "epochs": 9},
}
CELEBA: dict[str, Any] = {
    "id": "celeba",
    "tasks": ["gender"],
    "schedule": {"epochs": 4},
    "objective": {"metric": "val/gender_acc", "direction": "maximize"},
}
ADIENCE: dict[str, Any] = {"id": "adience", "optimizer": "adam", "model": {"dropout": 0.2}}


def sweep(**parts: Any) -> Sweep:
    document = {"name": "transfer", "objective": {"metric": "val/age_mae", "direction": "minimize"}, **parts}
    return sweep_from_document(document)


def configs(loaded: Sweep) -> list[TrialConfig]:
    return [loaded.space.build(_at(point)).config for point in loaded.space.points()]


def _at(point: dict[str, Any]) -> Callable[..., Any]:
    return lambda name, _: point[name]


def only(**trial: Any) -> TrialConfig:
    (config,) = configs(sweep(trial=TRIAL | trial))
    return config


def problems(**parts: Any) -> list[str]:
    with pytest.raises(SpecError) as caught:
        sweep(**parts)
    return [f"{problem.path}: {problem.message}" for problem in caught.value.problems]


def test_the_last_stage_is_the_trial_and_starts_from_the_one_before() -> None:
    config = only(stages=[CELEBA, ADIENCE])
    assert (config.optimizer.name, config.schedule.epochs, config.tasks) == ("adam", 9, ("age", "gender", "race"))
    assert (config.model.weights, config.model.weights_heads) == ("init", "keep")
    assert config.init is not None
    assert (config.init.id, config.init.objective.metric) == ("celeba", "val/gender_acc")
    stage = config.init.config
    assert (stage.tasks, stage.schedule.epochs, stage.schedule.name) == (("gender",), 4, "constant")
    assert (stage.optimizer.name, stage.optimizer.lr) == ("sgd", 0.1)
    assert (stage.model.weights, stage.init) == ("none", None)
    assert [each.id for each in config.stages] == ["celeba"]


def test_stages_start_from_the_best_epoch_by_their_loss_unless_they_say() -> None:
    config = only(stages=[{"id": "first"}, {"id": "last"}])
    assert config.init is not None
    assert (config.init.objective.metric, config.init.objective.direction) == ("val/loss", "minimize")


def test_a_chain_of_three_and_a_stage_that_names_where_it_starts_from() -> None:
    chain = only(stages=[{"id": "a", "seed": 1}, {"id": "b", "seed": 2}, {"id": "c", "seed": 3}])
    assert [(stage.id, stage.config.seed, stage.config.model.weights) for stage in chain.stages] == [
        ("a", 1, "none"),
        ("b", 2, "init"),
    ]
    assert chain.seed == 3
    named = only(stages=[{"id": "a"}, {"id": "b", "init": "a"}, {"id": "c", "init": "b"}])
    assert [stage.id for stage in named.stages] == ["a", "b"]


def test_what_the_space_draws_reaches_the_trial_and_of_the_stages_model_and_image_alone() -> None:
    space = {"optimizer": {"lr": [0.001, 0.002]}, "batch_size": [8, 16], "model": {"conv_layers": [1, 2]}}
    found = configs(sweep(trial=TRIAL | {"stages": [CELEBA, ADIENCE]}, space=space))
    assert len(found) == 8
    assert {config.optimizer.lr for config in found} == {0.001, 0.002}
    stages = {config.init.model_dump_json() for config in found if config.init is not None}
    assert len(stages) == 2
    for config in found:
        assert config.init is not None
        assert config.init.config.model.conv_layers == config.model.conv_layers  # type: ignore[union-attr]
        assert (config.init.config.optimizer.lr, config.init.config.batch_size) == (0.1, 64)


def test_the_first_stage_starts_from_the_trial_s_file_of_weights() -> None:
    config = only(
        model={"name": "resnet10t", "weights": "w.safetensors", "weights_heads": "keep"},
        stages=[CELEBA, ADIENCE | {"model": {}}],
    )
    assert config.model.weights == "init"
    assert config.init is not None
    assert (config.init.config.model.weights, config.init.config.model.weights_heads) == ("w.safetensors", "keep")
    assert (config.model.weights, config.model.weights_heads) == ("init", "keep")


def test_a_stage_sets_itself_what_it_takes_of_the_heads() -> None:
    last = {"id": "last", "model": {"weights_heads": "as_shared"}}
    assert only(stages=[{"id": "first"}, last]).model.weights_heads == "as_shared"


def test_the_space_chooses_among_lists_of_stages_by_their_names() -> None:
    lists = [[CELEBA, ADIENCE], [CELEBA | {"id": "again", "seed": 7}, ADIENCE], []]
    loaded = sweep(trial=TRIAL, space={"stages": {"choice": lists}})
    built = [loaded.space.build(_at(point)) for point in loaded.space.points()]
    assert [proposal.params for proposal in built] == [
        {"stages": "celeba>adience"},
        {"stages": "again>adience"},
        {"stages": "none"},
    ]
    assert [proposal.config.init is None for proposal in built] == [False, False, True]
    assert built[2].config.optimizer.name == "sgd"


def test_a_variant_has_stages_and_another_none() -> None:
    variants = {
        "direct": {},
        "transfer": {"stages": [CELEBA, ADIENCE]},
        "longer": {"from": "transfer", "batch_size": 8},
    }
    loaded = sweep(trial=TRIAL, variants=variants)
    built = {str(point["variant"]): loaded.space.build(_at(point)).config for point in loaded.space.points()}
    assert built["direct"].init is None
    assert built["transfer"].init is not None
    assert built["longer"].init is not None
    assert built["longer"].init.config.batch_size == built["longer"].batch_size == 8


def test_a_recorded_configuration_is_a_trial_again() -> None:
    config = only(stages=[{"id": "a", "seed": 1}, CELEBA, ADIENCE])
    again = sweep(trial=config.to_document())
    assert configs(again) == [config]


def test_equal_stages_of_different_trials_have_one_key() -> None:
    found = configs(sweep(trial=TRIAL | {"stages": [CELEBA, ADIENCE]}, space={"optimizer": {"lr": [0.001, 0.002]}}))
    content = {"data_digest": "d", "split_digest": "s", "weights_sha256": None}
    keys = {config.init.key(**content) for config in found if config.init is not None}
    assert len(keys) == 1
    other = only(stages=[CELEBA | {"seed": 1}, ADIENCE])
    renamed = only(stages=[CELEBA | {"id": "other"}, ADIENCE])
    assert other.init is not None
    assert renamed.init is not None
    assert other.init.key(**content) not in keys
    assert renamed.init.key(**content) in keys
    assert other.init.key(**(content | {"data_digest": "e"})) != other.init.key(**content)
    assert other.init.key(**(content | {"weights_sha256": "w"})) == other.init.key(**content)  # it starts from none


def test_the_rows_of_stages_are_shown_before_anything_is_trained() -> None:
    loaded = sweep(trial=TRIAL, space={"stages": {"choice": [[CELEBA, ADIENCE], []]}})
    assert rows(sample(loaded, 2)) == ("celeba (4 epochs) > the trial (9 epochs)",)


@pytest.mark.parametrize(
    ("stages", "path", "words"),
    [
        (5, "stages", "5 given; it must be a list of stages"),
        ([{"id": "a"}], "stages", "one stage alone is the trial itself"),
        ([{"seed": 1}, {"id": "b"}], "stages[0].id", "missing; `id` is 1 to 30"),
        ([{"id": "a/b"}, {"id": "b"}], "stages[0].id", '"a/b" given'),
        ([{"id": "a"}, {"id": "a"}], "stages[1].id", "two stages have the id 'a'"),
        ([{"id": "a", "init": "b"}, {"id": "b"}], "stages[0].init", "the first stage has none before it"),
        ([{"id": "a"}, {"id": "b", "init": "aa"}], "stages[1].init", "not an earlier stage. Did you mean 'a'?"),
        ([{"id": "a"}, {"id": "b"}, {"id": "c", "init": "a"}], "stages[1].id", "no stage starts from 'b'"),
        ([{"id": "a"}, {"id": "b", "stages": []}], "stages[1].stages", "cannot contain stages; list all"),
        ([{"id": "a"}, {"id": "b", "model": {"weights": "timm"}}], "stages[1].model.weights", "the weights of 'a'"),
        ([{"id": "a"}, {"id": "b", "objective": {}}], "stages[1].objective", "the sweep's objective selects"),
        ([{"id": "a", "tasks": ["gander"]}, {"id": "b"}], "stages[0].tasks[0]", "Did you mean 'gender'"),
        ([{"id": "a", "sed": 1}, {"id": "b"}], "stages[0].sed", "unknown field. Did you mean 'seed'?"),
        (
            [{"id": "a", "objective": {"metric": "val/age_ma"}}, {"id": "b"}],
            "stages[0].objective.metric",
            "not a validation metric of a trial. Did you mean 'val/age_mae'",
        ),
        (
            [{"id": "a", "early_stopping": {"metric": "val/x", "direction": "minimize", "patience": 2}}, {"id": "b"}],
            "stages[0].early_stopping.metric",
            "not a validation metric",
        ),
    ],
)
@pytest.mark.parametrize("where", ["trial", "variants.v", "space"])
def test_an_error_in_stages_names_its_path(where: str, stages: Any, path: str, words: str) -> None:
    parts: dict[str, dict[str, Any]] = {
        "trial": {"trial": TRIAL | {"stages": stages}},
        "variants.v": {"trial": TRIAL, "variants": {"v": {"stages": stages}}},
        "space": {"trial": TRIAL, "space": {"stages": {"choice": [stages, [CELEBA, ADIENCE]]}}},
    }
    at = f"{where}.{path}" if where != "space" else f"space.{path.replace('stages', 'stages.choice[0]', 1)}"
    found = problems(**parts[where])
    if where == "space" and stages == 5:  # a choice among numbers is told by the choice
        assert found
        return
    assert any(problem.startswith(f"{at}: ") and words in problem for problem in found), found


@pytest.mark.parametrize("where", ["trial", "space", "variants"])
def test_init_beside_stages_is_refused_and_not_lost(where: str) -> None:
    init = {"init": {"config": {"batch_size": 8}}}
    parts: dict[str, Any] = {"trial": TRIAL | {"stages": [CELEBA, ADIENCE]}}
    if where == "variants":
        parts["variants"] = {"v": init}
    else:
        parts[where] = parts.get(where, {}) | init
    place = "variants.v.init" if where == "variants" else f"{where}.init"
    assert problems(**parts) == [
        f"{place}: `init` is made from `stages`: write one or the other; stages vary as whole lists."
    ]


OFFICIAL = {"source": "adience", "split": {"strategy": "official", "partitions": {"train": [0], "test": [4]}}}


def test_a_stage_on_other_data_does_not_inherit_which_partitions_are_which_part() -> None:
    other = CELEBA | {"data": {"source": "celeba", "split": {"strategy": "official"}}}
    config = only(data=OFFICIAL, stages=[other, ADIENCE])
    assert config.data.split.partitions is not None
    assert config.init is not None
    assert config.init.config.data.split.partitions is None
    own = CELEBA | {"data": {"source": "celeba", "split": {"partitions": {"train": ["a"]}}}}
    config = only(data=OFFICIAL, stages=[own, ADIENCE])
    assert config.init is not None
    partitions = config.init.config.data.split.partitions
    assert partitions is not None
    assert partitions.train == ("a",)


def test_a_stage_on_the_same_data_inherits_its_split() -> None:
    config = only(data=OFFICIAL, stages=[CELEBA, ADIENCE])
    assert config.init is not None
    assert config.init.config.data == config.data


def key(trial: dict[str, Any], **stage: Any) -> str:
    config = only(**trial, stages=[CELEBA | stage, ADIENCE])
    assert config.init is not None
    return config.init.key(data_digest="d", split_digest="s", weights_sha256=None)


@pytest.mark.parametrize(
    "trial",
    [
        {"age": {"encoding": "onehot", "bins": "utk4", "decode": "argmax"}},
        {"age": {"encoding": "younger_than", "bins": "adience8"}},
        {"loss": {"weights": {"age": 4}}},
        {"loss": {"age_density": "inverse"}},
        {"loss": {"phases": [{"from_epoch": 2, "weights": {"race": 3}}]}},
        {"evaluate": {"train": True}},
        {"image": {"size": 32, "cache": "jpeg"}},
    ],
    ids=str,
)
def test_a_stage_is_the_same_whatever_its_training_does_not_use(trial: dict[str, Any]) -> None:
    """The stage learns gender alone."""
    assert key(trial) == key({})


@pytest.mark.parametrize(
    "trial",
    [
        {"loss": {"weights": {"gender": 4}}},
        {"loss": {"label_smoothing": 0.1}},
        {"image": {"size": 48}},
        {"sampler": {"name": "weighted", "by": "age"}, "age": {"encoding": "onehot", "bins": "utk4"}},
        {"seed": 7},
    ],
    ids=str,
)
def test_a_stage_is_another_where_its_training_uses_what_differs(trial: dict[str, Any]) -> None:
    assert key(trial) != key({"sampler": trial["sampler"]} if "sampler" in trial else {})


def test_how_years_are_decoded_matters_where_they_tell_the_best_epoch() -> None:
    argmax = {"age": {"encoding": "onehot", "decode": "argmax"}}
    by_loss = {"tasks": ["age"], "objective": {"metric": "val/age_f1", "direction": "maximize"}}
    by_years = {"tasks": ["age"], "objective": {"metric": "val/age_mae"}}
    assert key(argmax, **by_loss) == key({}, **by_loss)
    assert key(argmax, **by_years) != key({}, **by_years)
    stopped = by_loss | {"early_stopping": {"metric": "val/age_mae"}}
    assert key(argmax, **stopped) != key({}, **stopped)


def test_a_phase_that_waits_for_a_metric_nobody_reports_is_refused() -> None:
    phases = [{"once": {"metric": "val/gendr_acc", "at_least": 0.5}, "weights": {"age": 2}}]
    (problem,) = problems(trial=TRIAL | {"loss": {"phases": phases}})
    assert problem.startswith(
        "trial.loss.phases.0.once.metric: 'val/gendr_acc' is not a validation metric of a trial. Did"
    )
