"""What rots unseen: the file tree, links, pinned versions, commands in documents; and what must never be committed."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
import typer.main
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from orchestrator.cli.main import app

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


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


# --------------------------------------------------------------------------------------------------------------------
# The file tree of the README


def tree() -> dict[str, str]:
    """Path -> remark, from the README's section on files."""
    section = read(ROOT / "README.md").partition("\n## Files\n")[2].partition("\n## ")[0]
    block = section.partition("```text\n")[2].partition("```")[0]
    rows = (line.split(maxsplit=1) for line in block.splitlines() if line.strip())
    return dict(rows)


def modules() -> set[str]:
    found = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return {str(path.relative_to(ROOT)) for path in found if path.name != "__init__.py"}


def first_line(module: str) -> str:
    return (ast.get_docstring(ast.parse(read(ROOT / module))) or "").partition("\n")[0]


def test_the_tree_in_the_readme_names_every_module() -> None:
    missing = sorted(modules() - tree().keys())
    lines = "\n".join(f"{module:<50}{first_line(module)}" for module in missing)
    assert not missing, f"the tree in README.md lacks these lines:\n{lines}"


def test_the_tree_in_the_readme_names_nothing_that_is_not_there() -> None:
    assert [path for path in tree() if not (ROOT / path).exists()] == []


def test_the_tree_in_the_readme_is_in_order_files_before_folders() -> None:
    def place(path: str) -> tuple[tuple[str, ...], str]:
        return (Path(path).parts, "") if path.endswith("/") else (Path(path).parent.parts, path)

    for package in PACKAGES:
        paths = [path for path in tree() if path.startswith(f"{package}/")]
        assert paths == sorted(paths, key=place), package


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


def shown_commands() -> Iterator[tuple[str, list[str]]]:
    """Every line of a code block that runs agr: document, words after ``agr``."""
    for document in documents():
        for block in re.findall(r"```(?:bash|console|sh)\n(.*?)```", read(document), flags=re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                for call in re.findall(r"(?:^|[\s(/|])agr ((?!#)[^#|)\n]+)", line):
                    yield str(document.relative_to(ROOT)), call.replace('"', "").split()


def test_every_agr_command_shown_in_a_document_exists_with_its_options() -> None:
    root = typer.main.get_command(app)
    checked = 0
    for document, words in shown_commands():
        command, options = root, list(root.params)
        while hasattr(command, "commands") and words and not words[0].startswith("-"):
            assert words[0] in command.commands, f"{document}: agr has no command {words[0]!r}"
            command = command.commands[words.pop(0)]
            options += command.params
        known = {"--help"} | {name for option in options for name in (*option.opts, *option.secondary_opts)}
        unknown = [word for word in words if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in known]
        assert not unknown, f"{document}: agr {command.name} has no option {unknown}"
        checked += 1
    assert checked > 5


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
    waiting = [("agr", frozenset({"dev"}))]
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
    del found["agr"]
    return found


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


def test_every_sweep_file_opens_with_the_command_that_runs_it() -> None:
    files = sorted((ROOT / "sweeps").rglob("*.yaml"))
    assert files
    for file in files:
        lines = [line for line in read(file).splitlines() if not line.startswith("# yaml-language-server:")]
        assert lines[0].startswith(f"# agr submit {file.relative_to(ROOT)}"), f"{file.name} opens with {lines[0]!r}"
