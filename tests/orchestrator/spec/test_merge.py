from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.spec.merge import merge, origin_of, read

mappings = st.recursive(
    st.integers(0, 3) | st.lists(st.integers(0, 3), max_size=2) | st.none(),
    lambda inner: st.dictionaries(st.sampled_from(["name", "encoding", "a", "b", "c"]), inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(st.sampled_from(["a", "b", "c"]), mappings, max_size=3)


def merged(base: Any, layer: Any) -> Any:
    return merge(read(base, ("base",)), read(layer, ("layer",))).plain()


@given(documents)
def test_merging_nothing_changes_nothing(document: dict[str, Any]) -> None:
    assert merged(document, {}) == document
    assert merged({}, document) == document
    assert merged(document, document) == document


@given(documents, documents)
def test_what_the_layer_says_holds(base: dict[str, Any], layer: dict[str, Any]) -> None:
    def holds(said: Any, got: Any) -> bool:
        if isinstance(said, dict):
            return isinstance(got, dict) and all(key in got and holds(said[key], got[key]) for key in said)
        return bool(said == got)

    assert holds(layer, merged(base, layer))


@given(documents, documents)
def test_merging_changes_neither_side(base: dict[str, Any], layer: dict[str, Any]) -> None:
    below, above = read(base, ()), read(layer, ())
    merge(below, above)
    assert (below.plain(), above.plain()) == (base, layer)


def test_mappings_merge_and_lists_are_replaced() -> None:
    base = {"data": {"split": {"by": ["age", "gender"], "seed": 1}}}
    layer = {"data": {"split": {"by": ["age"]}, "fraction": 0.5}}
    assert merged(base, layer) == {"data": {"split": {"by": ["age"], "seed": 1}, "fraction": 0.5}}


def test_a_component_of_another_name_is_replaced_whole() -> None:
    base = {"optimizer": {"name": "sgd", "momentum": 0.9, "lr": 0.1}}
    assert merged(base, {"optimizer": {"name": "adam"}}) == {"optimizer": {"name": "adam"}}
    assert merged({"age": {"encoding": "onehot", "bins": "utk4"}}, {"age": {"encoding": "regression"}}) == {
        "age": {"encoding": "regression"}
    }


def test_a_component_of_the_same_name_keeps_its_fields() -> None:
    base = {"optimizer": {"name": "sgd", "momentum": 0.9}}
    assert merged(base, {"optimizer": {"name": "sgd", "lr": 0.2}}) == {
        "optimizer": {"name": "sgd", "momentum": 0.9, "lr": 0.2}
    }


def test_a_name_given_later_keeps_what_was_said_before_it() -> None:
    assert merged({"optimizer": {"lr": 0.2}}, {"optimizer": {"name": "sgd"}}) == {
        "optimizer": {"lr": 0.2, "name": "sgd"}
    }


def test_bare_words_are_names_before_they_are_merged() -> None:
    base = {"optimizer": "sgd", "model": "resnet10t"}
    assert merged(base, {"optimizer": {"lr": 0.1}}) == {
        "optimizer": {"name": "sgd", "lr": 0.1},
        "model": {"name": "resnet10t"},
    }
    assert merged({"optimizer": {"name": "sgd", "lr": 0.1}}, {"optimizer": "sgd"}) == {
        "optimizer": {"name": "sgd", "lr": 0.1}
    }


def test_a_word_where_nothing_has_a_name_stays_a_word() -> None:
    assert merged({}, {"age": "regression", "data": {"source": "synthetic"}}) == {
        "age": "regression",
        "data": {"source": "synthetic"},
    }


def test_null_takes_a_part_away_and_a_mapping_brings_it_back() -> None:
    assert merged({"early_stopping": {"patience": 3}}, {"early_stopping": None}) == {"early_stopping": None}
    assert merged({"early_stopping": None}, {"early_stopping": {"patience": 3}}) == {"early_stopping": {"patience": 3}}


def test_each_value_remembers_which_layer_said_it() -> None:
    node = merge(read({"optimizer": {"name": "sgd", "lr": 1}}, ("trial",)), read({"optimizer": {"lr": 2}}, ("space",)))
    assert origin_of(node, ("optimizer", "lr")) == ("space", "optimizer", "lr")
    assert origin_of(node, ("optimizer", "name")) == ("trial", "optimizer", "name")
    assert origin_of(node, ("optimizer", "missing")) == ("trial", "optimizer", "missing")
