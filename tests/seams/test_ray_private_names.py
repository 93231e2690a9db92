"""No module but those of ``orchestrator.ray_tune.internals`` uses a private name of Ray."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # all modules are parsed

ROOT = Path(__file__).parents[2]

PUBLIC = {
    "ray",
    "ray.air.integrations.mlflow",
    "ray.cluster_utils",
    "ray.exceptions",
    "ray.job_submission",
    "ray.runtime_env",
    "ray.train",
    "ray.train.torch",
    "ray.tune",
    "ray.tune.experiment",
    "ray.tune.schedulers",
    "ray.tune.search.optuna",
    "ray.tune.search.search_algorithm",
    "ray.util",
    "ray.util.placement_group",
    "ray.util.queue",
    "ray.util.scheduling_strategies",
}
"""Modules of Ray whose names its documentation gives. All others are private, and so is a name with an underscore."""

ALLOWED = ("orchestrator/ray_tune/internals/", "tests/parts/ray_internals.py", "tests/seams/")


def private_imports(source: str) -> list[str]:
    """The private names of Ray that a module imports."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        for module, name in names:
            of_ray = module.partition(".")[0] == "ray"
            if of_ray and ((f"{module}.{name}" not in PUBLIC and module not in PUBLIC) or name.startswith("_")):
                found.append(f"{module}.{name}".rstrip("."))
    return found


def private_attributes(source: str) -> list[str]:
    """Attributes with an underscore that are read or set of anything but ``self``, ``cls`` and ``os``."""
    return [
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls", "os"})
    ]


def modules(*folders: str) -> Iterator[tuple[str, str]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith(ALLOWED):
                yield name, path.read_text(encoding="utf-8")


def test_no_other_module_imports_a_private_name_of_ray() -> None:
    found = {name: private_imports(source) for name, source in modules("agr_core", "orchestrator", "tests")}
    assert {name: imports for name, imports in found.items() if imports} == {}


def test_no_other_module_of_the_engine_reads_private_attributes() -> None:
    engine = modules("orchestrator/ray_tune", "orchestrator/cluster")
    found = {name: private_attributes(source) for name, source in engine}
    assert {name: attributes for name, attributes in found.items() if attributes} == {}


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("from ray._private.state import actors", ["ray._private.state.actors"]),
        ("from ray import _raylet", ["ray._raylet"]),
        ("import ray.tune.tune", ["ray.tune.tune"]),
        ("def f():\n    from ray.tune.execution import class_cache", ["ray.tune.execution.class_cache"]),
        ("from ray.core.generated import common_pb2", ["ray.core.generated.common_pb2"]),
        ("import ray\nfrom ray import tune\nfrom ray.util.queue import Queue\nfrom raymond import _x", []),
    ],
)
def test_private_names_are_recognised(source: str, names: list[str]) -> None:
    assert private_imports(source) == names


# --------------------------------------------------------------------------------------------------------------------
# core, raylet: on a node of our own
