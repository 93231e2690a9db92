"""Canonical JSON and digests."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agr_core.identity import canonical_json, digest, file_digest

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def reordered(value: Any) -> Any:
    """The same value with every mapping in the opposite order."""
    if isinstance(value, dict):
        return {key: reordered(item) for key, item in reversed(value.items())}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@given(value=values)
def test_the_order_of_keys_does_not_change_the_text(value: Any) -> None:
    assert canonical_json(reordered(value)) == canonical_json(value)


def test_canonical_json_is_sorted_and_dense_and_keeps_letters() -> None:
    assert canonical_json({"b": [1, 2.5, None, True], "a": "Zoë"}) == '{"a":"Zoë","b":[1,2.5,null,true]}'


@pytest.mark.parametrize("value", [math.nan, math.inf, {"lr": -math.inf}])
def test_numbers_json_does_not_have_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(value)


def test_what_json_cannot_say_is_refused() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        canonical_json({"path": Path()})


def test_a_digest_is_the_sha256_of_the_utf8_text() -> None:
    # printf '{"a":"Zoë"}' | sha256sum
    assert digest({"a": "Zoë"}) == "7bc2c0320d65f34516a6a91481b588f16a20a2c1ebf450a68e362111f02c102f"
    assert digest(1) != digest(1.0) != digest("1")


@pytest.mark.parametrize("size", [0, 5, 1 << 20, (1 << 20) + 1])
def test_a_file_digest_is_that_of_all_its_bytes(size: int, tmp_path: Path) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    (tmp_path / "file").write_bytes(content)
    assert file_digest(tmp_path / "file") == hashlib.sha256(content).hexdigest()
