"""The digest of sources sees what code does, not how it is written, nor where it lies."""

from __future__ import annotations

import ast
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

import agr_core
from agr_core.code_digest import code_digest

SOURCES = Path(agr_core.__file__).parent

MATH = '''
"""Sums."""

import logging
import math as m
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, Field

from pkg.errors import BrokenError

_log = logging.getLogger(__name__)
_LIMIT: int = 3


class Config(BaseModel):
    """What to do."""

    kind: Literal["a", "b"] = "a"
    """Which kind."""
    size: int = Field(default=2, ge=1, description="How large.")


def scaled(values: list[float], factor: float = 2.0, *, offset: float = 0.0) -> list[float]:
    """Scales."""
    if not values:
        raise BrokenError(f"{values!r} is empty; give at least {_LIMIT}.", 4)
    found: list[float] = []
    for value in values:
        _log.info("scaling %s", value)
        assert value >= 0, "negative"
        found.append(_one(value, factor=factor) + offset)  # in order
    return [inner for inner in sorted(found, key=lambda given: -given) if m.isfinite(inner)]


def _one(value: float, factor: float) -> float:
    product = value * factor
    return product
'''
ERRORS = '''
class BrokenError(Exception):
    """Broken."""
'''


def package(folder: Path, **files: str) -> Path:
    root = folder / "pkg"
    shutil.rmtree(root, ignore_errors=True)
    for name, text in {"__init__": "", "errors": ERRORS, "sums": MATH, **files}.items():
        file = root / f"{name.replace('__in__', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text), encoding="utf-8")
    return root


def digest_of(folder: Path, **files: str) -> str:
    return digest_of_copy(package(folder, **files))


def digest_of_copy(root: Path) -> str:
    """In a folder of its own: the sources of a folder are read once in a process."""
    return code_digest(Path(shutil.copytree(root, Path(tempfile.mkdtemp(dir=root.parent), root.name))))


def edited(old: str, new: str) -> str:
    assert old in MATH
    return MATH.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Scales."""', '"""Multiplies each."""'),
        ('"""Sums."""\n', ""),
        ('    """Which kind."""\n', ""),
        ("  # in order", ""),
        ("product = value * factor\n    return product", "result = (value\n  *  factor)\n    return result"),
        ("found", "scaled_values"),
        ("inner", "kept"),
        ("lambda given: -given", "lambda item: -item"),
        ("found: list[float] = []", "found = []"),
        ("values: list[float], factor: float = 2.0", "values, factor=2.0"),
        ('f"{values!r} is empty; give at least {_LIMIT}."', '"No value was given."'),
        ('_log.info("scaling %s", value)', '_log.debug("one more: %s of %s", value, len(values))'),
        ('        _log.info("scaling %s", value)\n', ""),
        (', "negative"', ""),
        (', description="How large."', ', description="Size in pixels."'),
        ("import math as m\n", "import math\n"),
        ("_LIMIT: int = 3", "_LIMIT = 3"),
        ("from pkg.errors import BrokenError", "from .errors import BrokenError"),
        ("from pkg.errors import BrokenError", "from pkg import errors\nfrom typing import Any"),
        ("_one(value, factor=factor)", "_one(value, number=factor)"),
    ],
)
def test_wording_is_no_change(old: str, new: str, tmp_path: Path) -> None:
    text = edited(old, new)
    if old == "import math as m\n":
        text = text.replace("m.isfinite", "math.isfinite")
    if "from pkg import errors" in new:
        text = text.replace("raise BrokenError", "raise errors.BrokenError")
    if "number=" in new:  # no other module can name the parameters of a private function that is only called
        text = text.replace("def _one(value: float, factor: float)", "def _one(value: float, number: float)")
        text = text.replace("value * factor", "value * number")

    assert digest_of(tmp_path, sums=text) == digest_of(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("value * factor", "value + factor"),
        ("factor: float = 2.0", "factor: float = 2.5"),
        ("_LIMIT: int = 3", "_LIMIT: int = 4"),
        ("class Config", "class Settings"),
        ("def scaled(", "def multiplied("),
        ("offset", "shift"),  # callers name it
        ('Literal["a", "b"]', 'Literal["a", "c"]'),
        ("ge=1", "ge=2"),
        ("    size: int =", "    size: float ="),
        ("value >= 0", "value > 0"),
        ("raise BrokenError(", "raise ValueError("),
        ('at least {_LIMIT}.", 4)', 'at least {_LIMIT}.", 5)'),
        ("import math as m", "import cmath as m"),
        ("from pkg.errors import BrokenError", "from pkg.errors import OtherError as BrokenError"),
        ("_one(value, factor=factor)", "_one(factor, factor=value)"),
        ("return product", "return value"),
        ("if m.isfinite(inner)", "if m.isfinite(found)"),
        ("found.append(", "found.remove("),
    ],
)
def test_what_code_does_is_a_change(old: str, new: str, tmp_path: Path) -> None:
    errors = ERRORS + "\n\nclass OtherError(Exception):\n    pass\n"

    changed = digest_of(tmp_path, sums=edited(old, new), errors=errors)
    assert changed != digest_of(tmp_path, errors=errors)


def test_definitions_move_between_files(tmp_path: Path) -> None:
    start = MATH.index("def _one")
    rest = "from pkg.deep.one import _one\n" + MATH[:start]
    moved = package(tmp_path, sums=rest, deep__in__one=MATH[start:], deep__in__errors=ERRORS, errors="")
    (moved / "sums.py").write_text(rest.replace("pkg.errors", "pkg.deep.errors"), encoding="utf-8")
    (moved / "sums.py").rename(moved / "totals.py")
    # what another module imports keeps its parameters' names
    imported = package(tmp_path / "before", other="from pkg.sums import _one\n")

    assert digest_of_copy(moved) == digest_of_copy(imported)


def test_the_order_of_definitions_does_not_count(tmp_path: Path) -> None:
    one = "X = 1\n\n\ndef f():\n    return X\n\n\ndef g():\n    return 2\n"
    other = "def g():\n    return 2\n\n\ndef f():\n    return X\n\n\nX = 1\n"

    assert digest_of(tmp_path, more=one) == digest_of(tmp_path, more=other)


def test_an_aliased_import_hides_no_change(tmp_path: Path) -> None:
    helpers = "def one():\n    return 1\n\n\ndef two():\n    return 2\n"
    first = digest_of(tmp_path, helpers=helpers, use="from pkg.helpers import one as f\n\nY = f()\n")

    assert digest_of(tmp_path, helpers=helpers, use="from pkg.helpers import one\n\nY = one()\n") == first
    assert digest_of(tmp_path, helpers=helpers, use="from pkg import helpers as h\n\nY = h.one()\n") == first
    assert digest_of(tmp_path, helpers=helpers, use="from pkg.helpers import two as f\n\nY = f()\n") != first


def test_two_helpers_of_one_name_are_distinguished(tmp_path: Path) -> None:
    """A function that moves to a module whose ``_N`` is another one does something else."""
    use = "\n\ndef f():\n    return _N\n"

    assert digest_of(tmp_path, a="_N = 1\n" + use, b="_N = 2\n") != digest_of(
        tmp_path, a="_N = 1\n", b="_N = 2\n" + use
    )


def test_a_name_that_shadows_another_is_the_inner_one(tmp_path: Path) -> None:
    head = "def f(a):\n    b = 1\n"

    assert digest_of(tmp_path, more=head + "    return [b for b in a]\n") == digest_of(
        tmp_path, more=head + "    return [c for c in a]\n"
    )
    assert digest_of(tmp_path, more=head + "    return [b for c in a]\n") != digest_of(
        tmp_path, more=head + "    return [c for c in a]\n"
    )


def test_a_part_is_digested_by_itself_with_what_it_uses_from_elsewhere(tmp_path: Path) -> None:
    def part(folder: str, **files: str) -> str:
        return code_digest(package(tmp_path / folder, **files), part="data")

    read = "from pkg.sums import _LIMIT\n\n\ndef read():\n    return _LIMIT\n"
    first = part("a", data__in__read=read)

    assert part("b", data__in__files__in__read=read) == first
    assert part("c", data__in__read=read, sums=edited("value * factor", "value + factor")) == first
    assert part("d", data__in__read=read, sums=edited("_LIMIT: int = 3", "_LIMIT: int = 4")) != first
    assert part("e", data__in__read=read.replace("return _LIMIT", "return -_LIMIT")) != first


# --------------------------------------------------------------------------------------------------------------------
# The sources of agr_core


@pytest.fixture(scope="module")
def recorded() -> str:
    return code_digest(SOURCES)


def copied(folder: Path) -> Path:
    return Path(shutil.copytree(SOURCES, folder / "agr_core", ignore=shutil.ignore_patterns("__pycache__")))


class _Rewording(ast.NodeTransformer):
    """Other docstrings, other messages, other names of local variables."""

    def __init__(self, taken: set[str]) -> None:
        self._taken = taken
        self._renamed: set[str] = set()

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return ast.Expr(ast.Constant("Other words."))
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.exc, ast.Call):
            node.exc.args = [
                ast.Constant("Another message.") if isinstance(one, (ast.JoinedStr, ast.Constant)) else one
                for one in node.exc.args
            ]
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        if self._renamed or any(isinstance(one, (ast.ClassDef, ast.Import, ast.ImportFrom)) for one in ast.walk(node)):
            return self.generic_visit(node)
        stored = {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
        parameters = {one.arg for one in ast.walk(node) if isinstance(one, ast.arg)}
        self._renamed = stored - parameters - self._taken
        self.generic_visit(node)
        self._renamed = set()
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(f"renamed_{node.id}", node.ctx) if node.id in self._renamed else node


def test_agr_core_in_other_words_is_the_same(tmp_path: Path, recorded: str) -> None:
    package = copied(tmp_path)
    renamed = 0
    for file in package.rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        taken = {
            one.id
            for node in tree.body
            if not isinstance(node, ast.FunctionDef)
            for one in ast.walk(node)
            if isinstance(one, ast.Name)
        }
        taken |= {
            one.name
            for one in ast.walk(tree)
            if isinstance(one, (ast.FunctionDef, ast.ExceptHandler, ast.MatchAs)) and one.name
        }
        text = ast.unparse(ast.fix_missing_locations(_Rewording(taken).visit(tree)))
        renamed += text.count("renamed_")
        file.write_text(f"# Formatted by a machine.\n{text}\n", encoding="utf-8")

    assert renamed > 500
    assert code_digest(package) == recorded


def test_agr_core_in_other_files_is_the_same(tmp_path: Path, recorded: str) -> None:
    package = copied(tmp_path)
    moves = {
        "data.decode": "decoding",
        "models.cascade": "models.by_group",
        "data.readers.utkface": "data.readers.faces.utk",
    }
    for old, new in moves.items():
        source, target = (package / f"{name.replace('.', '/')}.py" for name in (old, new))
        assert source.exists()
        target.parent.mkdir(exist_ok=True)
        source.rename(target)
        before, after = (f"agr_core.{name}".rpartition(".") for name in (old, new))
        for file in package.rglob("*.py"):
            text = re.sub(rf"\bagr_core\.{re.escape(old)}\b", f"agr_core.{new}", file.read_text(encoding="utf-8"))
            whole = rf"from {re.escape(before[0])} import {before[2]}(?: as {before[2]})?$"
            aliased = f"from {after[0]} import {after[2]} as {before[2]}"
            text = re.sub(whole, aliased, text, flags=re.MULTILINE)
            file.write_text(text, encoding="utf-8")

    assert code_digest(package) == recorded


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("trainer/losses.py", lambda text: text.replace(" * ", " / ", 1)),
        ("identity.py", lambda text: text.replace("1 << 20", "1 << 21")),
        ("data/packed/pack.py", lambda text: re.sub(r"^def pack\(", "def packed(", text, count=1, flags=re.MULTILINE)),
        (
            "models/cascade.py",
            lambda text: re.sub(r"^class (\w+)", r"class Other\1", text, count=1, flags=re.MULTILINE),
        ),
        ("config/optimizer.py", lambda text: text.replace("default=1e-3", "default=1e-2", 1)),
    ],
)
def test_a_change_of_agr_core_is_seen(file: str, change: Callable[[str], str], tmp_path: Path, recorded: str) -> None:
    package = copied(tmp_path)
    text = (package / file).read_text(encoding="utf-8")
    assert change(text) != text
    (package / file).write_text(change(text), encoding="utf-8")

    assert code_digest(package) != recorded


def test_another_process_takes_the_kept_digest_until_a_byte_changes(tmp_path: Path) -> None:
    root, cache = package(tmp_path), tmp_path / "cache"
    first = code_digest(root, cache=cache)
    (kept,) = (cache / "code").iterdir()
    kept.write_text("f" * 64, encoding="ascii")

    assert code_digest(root, cache=cache) == "f" * 64
    assert code_digest(root, "sums", cache=cache) != "f" * 64

    moved = package(tmp_path / "other", sums=edited("value * factor", "value + factor"))
    assert code_digest(moved, cache=cache) not in {first, "f" * 64}
