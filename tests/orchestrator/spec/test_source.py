from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agr_core.errors import InputError
from orchestrator.errors import SpecError
from orchestrator.spec.source import Mark, parse_value, read_file, read_text, render_path


def document(text: str) -> object:
    source = read_text(text, file="f.yaml")
    assert source.problems == []
    return source.document


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("1e-4", 1e-4),
        ("1.0e-4", 1e-4),
        ("1.", 1.0),
        ("-.5", -0.5),
        ("12", 12),
        ("-3", -3),
        ("012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("2024-01-31", "2024-01-31"),
        ('"3"', "3"),
        ("!!str 3", "3"),
        ("20m", "20m"),
        ("s3://agr/utkface", "s3://agr/utkface"),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    parsed = parse_value(text, file="f.yaml")
    assert parsed == value
    assert type(parsed) is type(value)


def test_marks_are_those_of_the_key_and_of_the_value() -> None:
    source = read_text("a: 1\nb:\n  - x\n  - {c: 2}\n", file="f.yaml")
    assert source.mark(("a",)) == Mark(1, 4)
    assert source.mark(("a",), key=True) == Mark(1, 1)
    assert source.mark(("b", 1, "c")) == Mark(4, 9)
    assert source.mark(("b", 1, "c"), key=True) == Mark(4, 6)


def test_the_mark_of_what_is_not_there_is_that_of_what_is_around_it() -> None:
    source = read_text("a: 1\nb: {c: 2}\n", file="f.yaml")
    assert source.mark(("b", "missing", 3)) == Mark(2, 4)
    assert source.mark(("missing",)) == Mark(1, 1)


def test_an_alias_stands_for_the_value_of_its_anchor() -> None:
    assert document("a: &x {name: adam}\nb: *x\nc: [*x]") == {
        "a": {"name": "adam"},
        "b": {"name": "adam"},
        "c": [{"name": "adam"}],
    }


def test_aliases_of_aliases_cannot_exhaust_the_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(SpecError, match="more than 100,000 values"):
        read_text("\n".join(lines), file="f.yaml")


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_file(tmp_path / "f.yaml").document == {"a": 1}


def test_a_control_character_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_bytes(b"a: \x01")
    with pytest.raises(SpecError, match=r"U\+0001 \(control character\) is not allowed") as caught:
        read_file(tmp_path / "f.yaml")
    assert "\n" not in str(caught.value)


def test_two_documents_in_one_file_are_refused() -> None:
    with pytest.raises(SpecError, match="3:1: this is not YAML"):
        read_text("a: 1\n\n---\nb: 2\n", file="f.yaml")


@pytest.mark.parametrize("name", ["nowhere.yaml", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot read the sweep file"):
        read_file(tmp_path / name)


@pytest.mark.parametrize("text", ["[" * 60 + "]" * 60, "[" * 400 + "]" * 400, "{a: " * 400 + "}" * 400])
def test_a_file_nested_too_deeply_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="nested deeper than 50 levels"):
        read_text(text, file="f.yaml")


@pytest.mark.parametrize(
    "text", ["9" * 5000, "-9223372036854775809", "1e999", "0x" + "f" * 20, ".inf", "-.INF", ".NaN"]
)
def test_a_number_beyond_64_bits_is_refused(text: str) -> None:
    problems = read_text(f"a: {text}", file="f.yaml").problems
    assert len(problems) == 1
    assert "is not a finite number of 64 bits" in problems[0].message


@pytest.mark.parametrize("text", ["yes", "no", "1:30"])
def test_yaml_1_1_is_refused_where_it_means_something_else(text: str) -> None:
    assert len(read_text(f"%YAML 1.1\n---\na: {text}\n", file="f.yaml").problems) == 1


def test_paths_are_rendered_as_people_write_them() -> None:
    assert render_path(("space", "model", 1, "conv_layers")) == "space.model[1].conv_layers"
    assert render_path(()) == ""
    assert render_path(("space", "two\nlines")) == "space.'two\\nlines'"


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(
        st.characters(
            codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="\ufeff\ufffe\uffff"
        )
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcdef", min_size=1), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_json_is_yaml_and_means_the_same(value: object) -> None:
    assert parse_value(json.dumps(value, ensure_ascii=False), file="f.yaml") == value
