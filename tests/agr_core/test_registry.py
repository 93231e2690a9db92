"""The registry: names once, and a failed lookup that teaches."""

from __future__ import annotations

import pytest

from agr_core.errors import InputError, UnknownComponentError
from agr_core.registry import Registry, did_you_mean


@pytest.fixture
def optimizers() -> Registry[str]:
    registry: Registry[str] = Registry("optimizer")
    for name in ("sgd", "nadam", "adamax"):
        registry.register(name, name.upper())
    return registry


def test_what_was_registered_is_found(optimizers: Registry[str]) -> None:
    assert optimizers.get("nadam") == "NADAM"
    assert "nadam" in optimizers
    assert "adam" not in optimizers
    assert optimizers.names() == tuple(optimizers) == ("adamax", "nadam", "sgd")


def test_register_returns_the_entry_so_that_it_can_decorate() -> None:
    entry = object()
    assert Registry[object]("thing").register("it", entry) is entry


def test_an_unknown_name_is_answered_with_the_nearest_and_all_others(optimizers: Registry[str]) -> None:
    message = r"^Unknown optimizer 'nadma'\. Did you mean 'nadam'\? Registered: adamax, nadam, sgd\.$"
    with pytest.raises(UnknownComponentError, match=message) as caught:
        optimizers.get("nadma")
    assert isinstance(caught.value, InputError)


def test_a_name_like_no_other_gets_no_suggestion(optimizers: Registry[str]) -> None:
    with pytest.raises(UnknownComponentError, match=r"^Unknown optimizer 'zzz'\. Registered:"):
        optimizers.get("zzz")


def test_a_name_cannot_be_registered_twice(optimizers: Registry[str]) -> None:
    with pytest.raises(ValueError, match=r"optimizer 'sgd' is registered already; choose another name"):
        optimizers.register("sgd", "other")
    assert optimizers.get("sgd") == "SGD"


def test_did_you_mean_is_silent_without_a_near_name() -> None:
    assert did_you_mean("adamm", ["adam", "sgd"]) == " Did you mean 'adam'?"
    assert did_you_mean("xyz", ["adam", "sgd"]) == ""
    assert did_you_mean("xyz", []) == ""
