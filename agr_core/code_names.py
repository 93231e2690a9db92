"""Name resolution in a package's sources: bindings, scopes, and definitions behind imports."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SCOPES = (*FUNCTIONS, ast.ClassDef, ast.Lambda)
_NAMED = (*FUNCTIONS, ast.ClassDef, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)


@dataclass(frozen=True)
class Entry:
    """A top-level statement: digest of its own code, and its references into the package in order of use."""

    own: str
    references: tuple[tuple[str, str], ...]


class Uses:
    """Counts of reads, calls and definitions of a module's names, in any scope."""

    def __init__(self, tree: ast.Module, package: str) -> None:
        self.loads: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.definitions: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.imported: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                self.loads[node.id] += 1
            elif isinstance(node, ast.Attribute):
                self.attributes.add(node.attr)
            elif isinstance(node, ast.Call):
                if isinstance(node.func, ast.Name) and all(keyword.arg for keyword in node.keywords):
                    self.calls[node.func.id] += 1
            elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
                self.definitions[node.name] += 1
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                self.imported.update(_targets(node, package).values())


@dataclass
class Module:
    """One file: its top-level statements that count, and the meaning of its names."""

    name: str
    path: str
    package: str  # base of relative imports
    imports: dict[str, str]  # local name to dotted target
    statements: list[ast.stmt]
    loggers: set[str]
    names: set[str]
    uses: Uses
    private: dict[str, ast.FunctionDef] = field(default_factory=dict)  # parameters that no other module can name
    entries: list[Entry] = field(default_factory=list)
    definitions: dict[str, list[Entry]] = field(default_factory=dict)


def modules_of(package: Path) -> Iterator[Module]:
    """Yield every Python file below the folder of a top-level package, parsed.

    Raises:
        SyntaxError: If a file is not Python.
    """
    for file in sorted(package.rglob("*.py")):
        path = file.relative_to(package)
        parts = [package.name, *path.with_suffix("").parts]
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        tree = ast.parse(file.read_bytes(), filename=str(file))
        around = name if is_package else name.rpartition(".")[0]
        imports = bound_by(tree.body, around).imports
        loggers = bound_by((node for node in tree.body if _is_logger(node)), around).names
        statements = [node for node in tree.body if not _is_layout(node)]
        names = bound_by(statements, around).names - imports.keys()
        yield Module(name, path.as_posix(), around, imports, statements, loggers, names, Uses(tree, around))


def _is_logger(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _last(node.value.func) == "getLogger"


def _is_layout(node: ast.stmt) -> bool:
    """Return whether a top-level statement has no behaviour: exports, type imports, loggers."""
    if isinstance(node, ast.If) and _last(node.test) == "TYPE_CHECKING" and not node.orelse:
        return True
    if isinstance(node, ast.AnnAssign) and node.value is None:
        return True
    is_all = isinstance(node, ast.Assign) and any(_last(target) == "__all__" for target in node.targets)
    return is_all or _is_logger(node) or is_nothing(node)


def is_nothing(node: ast.stmt) -> bool:
    """Return whether a statement has no effect: a constant, ``pass``, an import, ``global``, ``nonlocal``."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    return isinstance(node, (ast.Pass, ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal))


def _last(node: ast.expr) -> str:
    """Return the last name of ``a.b.c``."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


@dataclass
class Bound:
    """Names bound by statements in their own scope."""

    names: set[str] = field(default_factory=set)  # without imports
    classes: set[str] = field(default_factory=set)
    imports: dict[str, str] = field(default_factory=dict)  # local name to dotted target
    outer: set[str] = field(default_factory=set)  # global and nonlocal


def bound_by(body: Iterable[ast.AST], package: str) -> Bound:
    """Return the names that ``body`` binds; relative imports start at ``package``; nested scopes count by name only."""
    bound = Bound()
    stack = list(body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Load):
                bound.names.add(node.id)
            continue
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            bound.outer.update(node.names)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            bound.imports.update(_targets(node, package))
        elif isinstance(node, _NAMED) and node.name:
            bound.names.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            bound.names.add(node.rest)
        if isinstance(node, ast.ClassDef):
            bound.classes.add(node.name)
        if isinstance(node, COMPREHENSIONS):  # `:=` binds in the enclosing scope
            stack.extend(inside.target for inside in ast.walk(node) if isinstance(inside, ast.NamedExpr))
        elif not isinstance(node, _SCOPES):
            stack.extend(ast.iter_child_nodes(node))
    return bound


def _targets(node: ast.Import | ast.ImportFrom, package: str) -> dict[str, str]:
    """Return the dotted target of each name that an import binds."""
    if isinstance(node, ast.Import):
        first = {alias: alias.name.partition(".")[0] for alias in node.names}
        return {alias.asname or first[alias]: alias.name if alias.asname else first[alias] for alias in node.names}
    parents = package.split(".")
    start = parents[: len(parents) - node.level + 1] if node.level else []
    base = ".".join([*start, node.module] if node.module else start)
    return {alias.asname or alias.name: f"{base}.{alias.name}" for alias in node.names}


class Index:
    """All modules of a package; resolves dotted names."""

    def __init__(self, package: str, modules: dict[str, Module]) -> None:
        self._package = package
        self.modules = modules
        taken = {target for module in modules.values() for target in module.imports.values()}
        taken |= {target for module in modules.values() for target in module.uses.imported}
        attributes = {name for module in modules.values() for name in module.uses.attributes}
        for module in modules.values():
            uses = module.uses
            module.private = {
                node.name: node
                for node in module.statements
                if isinstance(node, ast.FunctionDef)
                and node.name.startswith("_")
                and not node.decorator_list
                and uses.loads[node.name] == uses.calls[node.name]
                and uses.definitions[node.name] == 1
                and f"{module.name}.{node.name}" not in taken
                and node.name not in attributes
            }

    def is_internal(self, dotted: str) -> bool:
        """Return whether a dotted name lies in the package."""
        return dotted == self._package or dotted.startswith(f"{self._package}.")

    def definition(self, module: str, name: str) -> tuple[str, str] | str | None:
        """Return (module, name) of the definition of ``name``, another dotted name it refers to, or None."""
        source = self.modules[module]
        if name in source.imports:
            target = source.imports[name]
            return target if target == f"{module}.{name}" else self.meaning(target)
        return (module, name) if name in source.names or name in source.loggers else None

    def meaning(self, dotted: str) -> tuple[str, str] | str:
        """Return (module, name) of a definition in the package, or the dotted name of a module or external object."""
        if not self.is_internal(dotted) or dotted in self.modules:
            return dotted
        module, _, name = dotted.rpartition(".")
        return (self.definition(module, name) or dotted) if module in self.modules else dotted

    def content(self, module: str, name: str) -> list[str]:
        """Return the digests of the statements that define ``name`` in ``module``."""
        return sorted({entry.own for entry in self.modules[module].definitions.get(name, [])})


@dataclass
class Scope:
    """Names of a function, lambda, comprehension or class body."""

    is_class: bool
    numbered: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)
    imports: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
