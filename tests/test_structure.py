"""The tree of the code: sizes of its parts, and the import contract, which must fail where it should."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("agr_core", "orchestrator")
TOP = {"__init__", "errors", "listening", "provenance", "rerun", "settings"}
"""Modules beside the packages of ``orchestrator``."""

FORBIDDEN_IMPORTS = {
    "orchestrator/sweep/run.py": "ray",
    "orchestrator/worker/attempt.py": "ray",
    "orchestrator/journal/events.py": "ray",
    "orchestrator/catalog/find.py": "mlflow",
    "orchestrator/cleanup/retention.py": "boto3",
    "orchestrator/sweep/proposals.py": "optuna",
    "agr_core/data/loading/loader.py": "agr_core.trainer.loop",
    "agr_core/evaluation/metrics.py": "timm",
}


def folders() -> list[Path]:
    found = [ROOT / package for package in PACKAGES]
    return [path for top in found for path in (top, *top.rglob("*")) if path.is_dir() and path.name != "__pycache__"]


def modules() -> list[Path]:
    return [path for folder in folders() for path in sorted(folder.glob("*.py"))]


def test_no_folder_has_more_than_twenty_modules() -> None:
    crowded = {str(folder.relative_to(ROOT)): len(list(folder.glob("*.py"))) for folder in folders()}
    assert {name: count for name, count in crowded.items() if count > 20} == {}


def test_the_top_of_the_orchestrator_has_only_what_all_rooms_share() -> None:
    assert {path.stem for path in (ROOT / "orchestrator").glob("*.py")} == TOP


def test_no_module_has_more_than_420_lines() -> None:
    sizes = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in modules()}
    assert {name: lines for name, lines in sizes.items() if lines > 420} == {}


def test_no_test_file_has_more_than_500_lines() -> None:
    files = sorted((ROOT / "tests").rglob("*.py"))
    sizes = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {name: lines for name, lines in sizes.items() if lines > 500} == {}


def test_the_structure_page_has_a_line_for_every_folder_and_for_nothing_else() -> None:
    page = (ROOT / "docs/structure.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^\| `((?:agr_core|orchestrator)/[\w/]*)` \|", page, flags=re.MULTILINE))
    assert described == {f"{folder.relative_to(ROOT)}/" for folder in folders()}


NAMED_BY_NOUN = frozenset({"Storage", "Settings", "Callable"})
"""Types whose variables must not be called ``place``."""


def named_places(source: str) -> list[int]:
    """Return the lines that annotate a ``place`` with one of these types: variables, fields, attributes, parameters.

    An annotation counts if the type is a part of it, as in ``Storage | None`` or an alias of a callable's type.
    """
    tree = ast.parse(source)
    aliases = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }

    def mentions(annotation: ast.AST) -> bool:
        for node in ast.walk(annotation):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and mentions(ast.parse(node.value)):
                return True
            name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
            if name in NAMED_BY_NOUN or (name in aliases and mentions(aliases[name])):
                return True
        return False

    annotated: list[tuple[ast.AST, ast.expr | None, int]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign):
            annotated.append((node.target, node.annotation, node.lineno))
        elif isinstance(node, ast.arg):
            annotated.append((node, node.annotation, node.lineno))
    names = (
        (getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "arg", None))
        for node, *_ in annotated
    )
    return [
        line
        for name, (_, annotation, line) in zip(names, annotated, strict=True)
        if name is not None and name.lstrip("_") == "place" and annotation is not None and mentions(annotation)
    ]


@pytest.mark.parametrize(
    "source",
    [
        "place: Storage = make()",
        "def f(place: Storage | None = None): ...",
        "def f(*, place: 'Settings'): ...",
        "class A:\n    place: base.Storage",
        "class A:\n    def f(self, place):\n        self._place: Callable[[], int] = place",
        "Where = Callable[[str], int]\ndef f(place: Where): ...",
        "async def f(*place: Settings): ...",
    ],
)
def test_a_place_is_found_wherever_it_is_annotated(source: str) -> None:
    assert len(named_places(source)) == 1


@pytest.mark.parametrize("source", ["storage: Storage = make()", "place: Path = make()", "def f(place: int): ..."])
def test_other_names_and_types_are_free(source: str) -> None:
    assert named_places(source) == []


def test_nothing_is_a_place_that_has_a_type() -> None:
    wrong = []
    for path in [*modules(), *(ROOT / "tests").rglob("*.py")]:
        with tokenize.open(path) as file:
            wrong += [f"{path.relative_to(ROOT)}:{line}" for line in named_places(file.read())]
    assert wrong == []


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([program, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def broken_contract(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the contract says of a copy of the code with one forbidden import in each of several modules."""
    copy = tmp_path_factory.mktemp("code")
    shutil.copy(ROOT / "pyproject.toml", copy)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for module, name in FORBIDDEN_IMPORTS.items():
        with (copy / module).open("a", encoding="utf-8") as file:
            file.write(f"\nimport {name}\n")
    (copy / "orchestrator/newroom").mkdir()
    (copy / "orchestrator/newroom/__init__.py").touch()
    checked = lint_imports(copy)
    assert checked.returncode != 0
    return checked.stdout


@pytest.mark.parametrize(("module", "name"), FORBIDDEN_IMPORTS.items())
def test_the_contract_refuses(broken_contract: str, module: str, name: str) -> None:
    dotted = module.removesuffix(".py").replace("/", ".")
    assert re.search(rf"{re.escape(dotted)} -> {re.escape(name)} \(l\.\d+", broken_contract)


def test_the_contract_refuses_a_package_without_a_layer(broken_contract: str) -> None:
    assert "orchestrator.newroom" in broken_contract
