"""What images are made of: bases by digest, exact versions, no root, no secret, nothing sent that is not needed."""

from __future__ import annotations

import re
import shlex
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "infra/docker/Dockerfile").read_text()
DIGEST = re.compile(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}")


def instructions() -> list[tuple[str, str]]:
    """Instruction and arguments, comments and line breaks gone."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def stages() -> dict[str, list[tuple[str, str]]]:
    """Instructions of each stage, those of the stages it builds on before its own."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, arguments in instructions():
        if name == "FROM":
            base, _, stage = arguments.partition(" AS ")
            found[stage] = list(found.get(base, []))
        found[stage].append((name, arguments))
    return found


def test_every_foreign_base_is_pinned_by_digest() -> None:
    own: set[str] = set()
    for name, arguments in instructions():
        if name == "FROM":
            base, _, stage = arguments.partition(" AS ")
            assert base in own or DIGEST.fullmatch(base), base
            own.add(stage)
    assert own == {"base", "mlflow", "node"}


def test_everything_is_installed_at_the_versions_of_constraints_txt() -> None:
    installs = [arguments for name, arguments in instructions() if name == "RUN" and "pip install" in arguments]
    assert len(installs) == 3
    assert all("--constraint constraints.txt" in arguments for arguments in installs)


def test_the_images_people_run_are_not_root() -> None:
    for stage in ("mlflow", "node"):
        users = [arguments for name, arguments in stages()[stage] if name == "USER"]
        assert users, stage
        assert not users[-1].startswith(("0", "root")), stage


def test_no_credential_is_a_build_argument_or_a_variable_of_an_image() -> None:
    secret = re.compile(r"KEY|SECRET|TOKEN|PASSWORD", flags=re.IGNORECASE)
    given = [arguments for name, arguments in instructions() if name in {"ARG", "ENV"}]
    assert [arguments for arguments in given if secret.search(arguments)] == []


def sent_to_the_builder(path: str) -> bool:
    """Whether .dockerignore lets a path through: the last rule that matches it or a folder above it decides."""
    sent = True
    parts = Path(path).parts
    above = ["/".join(parts[: length + 1]) for length in range(len(parts))]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        rule = line.strip()
        if not rule or rule.startswith("#"):
            continue
        pattern = rule.removeprefix("!").removeprefix("**/")
        names = [*above, *parts] if "**/" in rule else above
        if any(fnmatch(name, pattern) and name.count("/") <= pattern.count("/") for name in names):
            sent = rule.startswith("!")
    return sent


def test_what_is_copied_is_sent_to_the_builder_and_exists() -> None:
    copied = [word for name, arguments in instructions() if name == "COPY" for word in shlex.split(arguments)[:-1]]
    paths = [word for word in copied if not word.startswith("--")]
    assert "pyproject.toml" in paths
    for path in paths:
        assert (ROOT / path).exists(), path
        assert sent_to_the_builder(path.rstrip("/")), path


def test_nothing_private_is_sent_to_the_builder() -> None:
    for path in (".git/config", ".env", "infra/services/.env", "agr_core/.env", "build/tests.log", ".venv/bin/python"):
        assert not sent_to_the_builder(path), path
