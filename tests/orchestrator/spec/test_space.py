"""The space against brute force: a second, naive reading of the grammar enumerates every configuration."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agr_core.config import TrialConfig
from agr_core.errors import ConfigError
from orchestrator.spec.load import Sweep, sweep_from_document
from orchestrator.spec.merge import read
from orchestrator.spec.space import Domain, Space

OBJECTIVE = {"metric": "val/age_mae", "direction": "minimize"}


def sweep(space: dict[str, Any], **more: Any) -> Sweep:
    return sweep_from_document({"name": "test", "objective": OBJECTIVE, "space": space, **more})


def random_sweep(space: dict[str, Any], **more: Any) -> Sweep:
    return sweep(space, search={"algorithm": "random", "trials": 1000}, **more)


def built(space: Space) -> list[str]:
    """Every configuration that the points of a space build, as text."""
    return [canonical(space.build(lambda name, _, p=point: p[name]).config.to_document()) for point in space.points()]


def canonical(document: dict[str, Any]) -> str:
    return json.dumps(document, sort_keys=True)


# --- brute force ---------------------------------------------------------------------------------------------------

LIST_FIELDS = {"split.by", "tasks", "optimizer.betas"}
COMPONENTS = {"model", "optimizer", "sampler"}


def expand(value: Any, field: str = "", parent: str = "") -> Iterator[Any]:
    """Every plain value that a space's ``value`` for ``parent.field`` stands for."""
    inner = f"{parent}.{field}" if parent else field
    if isinstance(value, dict):
        if "choice" in value:
            for item in value["choice"]:
                yield from [item] if isinstance(item, list) else expand(item, field, parent)
        elif "randint" in value:
            yield from range(value["randint"][0], value["randint"][1] + 1, value.get("step", 1))
        elif "uniform" in value:
            low, high, step = *value["uniform"], value["step"]
            yield from (round(low + n * step, 9) for n in range(round((high - low) / step) + 1))
        else:
            for combination in itertools.product(*(list(expand(item, key, field)) for key, item in value.items())):
                yield dict(zip(value, combination, strict=True))
    elif isinstance(value, list) and inner not in LIST_FIELDS and not (field == "bins" and type(value[0]) is int):
        for item in value:
            yield from [item] if isinstance(item, list) else expand(item, field, parent)
    elif isinstance(value, str) and field in COMPONENTS:
        yield {"name": value}
    else:
        yield value


def laid_over(base: dict[str, Any], layer: dict[str, Any]) -> dict[str, Any]:
    for identity in ("name", "encoding"):
        if base.get(identity, layer.get(identity)) != layer.get(identity, base.get(identity)):
            return layer
    result = dict(base)
    for key, value in layer.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        result[key] = laid_over(base[key], value) if both else value
    return result


def brute_force(trial: dict[str, Any], variants: dict[str, Any], space: dict[str, Any]) -> list[dict[str, Any]]:
    bases = [laid_over(trial, variant) for variant in variants.values()] or [trial]
    return [laid_over(base, layer) for base in bases for layer in expand(space)]


# --- random spaces -------------------------------------------------------------------------------------------------


def some(*values: Any) -> st.SearchStrategy[list[Any]]:
    return st.lists(
        st.sampled_from(values), min_size=1, max_size=3, unique_by=lambda item: json.dumps(item, sort_keys=True)
    )


def mapping(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


rates = st.sampled_from(
    [0.1, [0.01, 0.1], {"uniform": [0.1, 0.5], "step": 0.2}, [{"uniform": [0.2, 0.4], "step": 0.1}, 0.9]]
)
layers = st.sampled_from([2, [2, 3], {"randint": [1, 3]}, {"choice": [1, 4]}])
optimizers = st.lists(
    st.one_of(
        st.just("adam"),
        st.just("nadam"),
        mapping(lr=rates, momentum=st.just(0.9)).map(lambda fields: {"name": "sgd", **fields}),
        mapping(lr=rates, betas=st.just([0.8, 0.9])).map(lambda fields: {"name": "adamw", **fields}),
        mapping(weight_decay=rates).map(lambda fields: {"name": ["adamax", "rmsprop"], **fields}),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda item: canonical({"name": item} if isinstance(item, str) else item),
)
models = st.one_of(
    mapping(conv_layers=layers, dropout=rates).map(lambda fields: {"name": "basic_cnn", **fields}),
    st.lists(
        st.one_of(
            st.just("resnet10t"),
            layers.map(lambda value: {"name": "basic_cnn", "conv_layers": value}),
            st.just({"name": ["resnet18", "resnet34"], "drop_path": [0.0, 0.1]}),
        ),
        min_size=1,
        max_size=3,
        unique_by=lambda item: json.dumps(item, sort_keys=True),
    ),
)
ages = st.sampled_from(
    [
        [{"encoding": "regression"}, {"encoding": ["onehot", "ordinal"], "bins": ["utk7", "every2"]}],
        [{"encoding": "onehot", "bins": [0, 13, 20]}, {"encoding": "onehot", "bins": ["utk4", [0, 50]]}],
        {"encoding": ["ordinal", "onehot"]},
    ]
)
spaces = mapping(
    model=models,
    optimizer=optimizers,
    age=ages,
    sampler=some("shuffle", {"name": "weighted", "by": ["age", "race"]}),
    batch_size=st.sampled_from([16, [16, 32], {"randint": [16, 32], "step": 8}]),
    image=mapping(size=some(48, 64), color=some("rgb", "grey")),
    early_stopping=st.just([None, {"patience": [2, 3]}]),
    tasks=st.sampled_from([["age"], {"choice": [["age"], ["age", "race"]]}]),
    data=st.just([{"fraction": 0.5}, {"split": {"by": ["age"], "seed": [1, 2]}}]),
)
trials = mapping(
    optimizer=st.sampled_from([{"name": "sgd", "lr": 0.5, "momentum": 0.8}, "adam", {"name": "nadam", "eps": 1e-6}]),
    model=st.just({"name": "basic_cnn", "hidden": 8}),
    age=st.just({"encoding": "onehot", "decode": "argmax"}),
    batch_size=st.just(8),
).map(lambda trial: {"compute": {"threads": 1}, **{k: {"name": v} if v == "adam" else v for k, v in trial.items()}})
variant_sets = st.sampled_from(
    [{}, {"plain": {}, "big": {"image": {"size": 64}, "optimizer": {"name": "adam", "lr": 0.3}}}]
)


@given(trials, variant_sets, spaces)
@settings(max_examples=50, deadline=None)
def test_points_build_exactly_the_configurations_of_brute_force(
    trial: dict[str, Any], variants: dict[str, Any], space: dict[str, Any]
) -> None:
    documents = brute_force(trial, variants, space)
    assume(len(documents) <= 100)
    wanted = [canonical(TrialConfig.from_document(document).to_document()) for document in documents]
    checked = random_sweep(space, trial=trial, variants=variants)
    assert checked.space.size() == len(wanted)
    assert sorted(built(checked.space)) == sorted(wanted)


@given(variant_sets, spaces, st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_what_is_drawn_builds_and_only_domains_of_the_branch_are_asked_for(
    variants: dict[str, Any], space: dict[str, Any], seed: int
) -> None:
    checked = random_sweep(space, variants=variants)
    generator = random.Random(seed)
    asked: list[tuple[str, Domain]] = []

    def choose(name: str, domain: Domain) -> Any:
        asked.append((name, domain))
        return domain.draw(generator)

    proposal = checked.space.build(choose)
    names = [name for name, _ in asked]
    assert len(set(names)) == len(names), "each domain is asked for once"
    assert (names[:1] == ["variant"]) == bool(variants)
    config = proposal.config.to_document()
    for path, value in proposal.params.items():
        at: Any = config
        for part in path.split("."):
            at = at[part]
        assert at == value, "params are the configuration's own values"


@given(spaces)
@settings(max_examples=20, deadline=None)
def test_equal_names_are_equal_domains(space: dict[str, Any]) -> None:
    names = [varied.name for varied in random_sweep(space).space.domains()]
    assert len(set(names)) == len(names)


@given(trials, variant_sets, spaces)
@settings(max_examples=20, deadline=None)
def test_a_sweep_comes_again_from_its_document(
    trial: dict[str, Any], variants: dict[str, Any], space: dict[str, Any]
) -> None:
    first = random_sweep(space, trial=trial, variants=variants)
    second = sweep_from_document(json.loads(json.dumps(first.document)))
    assert second == first
    assert list(islice(second.space.points(), 20)) == list(islice(first.space.points(), 20))


# --- examples ------------------------------------------------------------------------------------------------------


def test_names_say_the_branch_they_stand_on() -> None:
    space = random_sweep(
        {
            "model": ["resnet10t", {"name": "basic_cnn", "conv_layers": {"randint": [2, 4]}}],
            "optimizer": [
                {"name": "sgd", "lr": {"loguniform": [1e-3, 1e-1]}},
                {"name": "sgd", "nesterov": True, "momentum": {"uniform": [0.8, 0.9]}},
                {"name": ["adam", "adamw"], "lr": [1e-3, {"loguniform": [1e-4, 1e-2]}]},
            ],
            "head": {"dropout": {"uniform": [0, 0.5]}},
            "image": [{"size": [48, 64]}, {"size": 96, "color": ["rgb", "grey"]}],
        }
    ).space
    assert {varied.name: varied.domain for varied in space.domains()} == {
        "model": Domain("categorical", ("resnet10t", "basic_cnn")),
        "model[basic_cnn].conv_layers": Domain("int", (), 2, 4),
        "optimizer": Domain("categorical", ("sgd", "sgd#2", "adam|adamw")),
        "optimizer[sgd].lr": Domain("float", (), 1e-3, 1e-1, None, True),
        "optimizer[sgd#2].momentum": Domain("float", (), 0.8, 0.9),
        "optimizer[adam|adamw].name": Domain("categorical", ("adam", "adamw")),
        "optimizer[adam|adamw].lr": Domain("categorical", (1e-3, "loguniform")),
        "optimizer[adam|adamw].lr[loguniform]": Domain("float", (), 1e-4, 1e-2, None, True),
        "head.dropout": Domain("float", (), 0, 0.5),
        "image": Domain("categorical", ("#1", "#2")),
        "image[#1].size": Domain("categorical", (48, 64)),
        "image[#2].color": Domain("categorical", ("rgb", "grey")),
    }


def test_scalars_of_a_choice_are_given_as_they_are() -> None:
    space = random_sweep(
        {
            "batch_size": [16, 32],
            "optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": [True, False]},
            "early_stopping": [None, {"patience": 2}],
            "tasks": {"choice": [["age"], ["age", "gender"]]},
        }
    ).space
    choices = {varied.name: varied.domain.choices for varied in space.domains()}
    assert choices == {
        "batch_size": (16, 32),
        "optimizer.nesterov": (True, False),
        "early_stopping": (None, "#2"),
        "tasks": ('["age"]', '["age", "gender"]'),
    }
    assert type(choices["optimizer.nesterov"][0]) is bool


def test_params_hold_what_varies_and_nothing_that_is_fixed() -> None:
    space = sweep(
        {
            "optimizer": [{"name": "sgd", "lr": 0.1}, "adam"],
            "batch_size": [16, 32],
            "head": {"dropout": 0.2},
        },
        trial={"image": {"size": 48}},
        variants={"base": {}, "light": {"augment": "light"}},
    ).space
    point = {"variant": "light", "optimizer": "sgd", "batch_size": 32}
    proposal = space.build(lambda name, _: point[name])
    assert proposal.params == {"optimizer.name": "sgd", "optimizer.lr": 0.1, "batch_size": 32}
    assert proposal.variant == "light"
    assert proposal.config.augment.name == "light"
    assert proposal.config.head.dropout == 0.2


def test_the_last_domain_changes_fastest() -> None:
    points = sweep({"batch_size": [16, 32], "sampler": ["shuffle", "weighted"]}).space.points()
    assert [tuple(point.values()) for point in points] == [
        (16, "shuffle"),
        (16, "weighted"),
        (32, "shuffle"),
        (32, "weighted"),
    ]


def test_points_of_a_large_space_come_one_by_one() -> None:
    space = random_sweep(
        {"seed": 1, "data": {"split": {"seed": {"randint": [0, 10**9]}}}, "batch_size": [16, 32]}
    ).space
    assert space.size() == 2 * (10**9 + 1)
    assert next(space.points()) == {"data.split.seed": 0, "batch_size": 16}


def test_a_space_without_end_has_no_size_and_no_points() -> None:
    space = random_sweep({"optimizer": ["sgd", {"name": "adam", "lr": {"loguniform": [1e-4, 1e-2]}}]}).space
    assert space.size() is None
    with pytest.raises(ConfigError, match="loguniform"):
        list(space.points())


def test_a_value_of_no_domain_is_refused() -> None:
    space = sweep({"batch_size": [16, 32]}).space
    with pytest.raises(ConfigError, match="64 is not a value of choice"):
        space.build(lambda *_: 64)


def test_an_empty_space_has_one_configuration() -> None:
    space = sweep({}, trial={"batch_size": 8}).space
    assert list(space.points()) == [{}]
    assert space.build(lambda *_: None).config.batch_size == 8


def test_values_that_do_not_go_together_are_refused_with_the_rule_and_the_values() -> None:
    layers = random_sweep({"model": {"name": "basic_cnn", "conv_layers": [2, 5]}}).space.tree
    space = Space({None: read({"image": {"size": 16}}, ("trial",))}, layers)
    assert space.build(lambda *_: 2).config.image.size == 16
    with pytest.raises(ConfigError, match=r"image.size=16 is too small .*with \{'model.conv_layers': 5\}"):
        space.build(lambda *_: 5)
