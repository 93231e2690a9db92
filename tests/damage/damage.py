"""Damages files of finished and interrupted sweeps at random, and looks at what the commands then show.

For every case one file of a storage is damaged, and commands are run on it. They must end without a traceback and in
time, show no other figure than before unless they say that something is wrong, never another winner, and never delete
what a sweep needs. From one seed the same cases follow::

    python -m tests.damage.damage --cases 2000 --seed 1
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from typer.testing import CliRunner

from agr_core.errors import AgrError
from agr_core.identity import file_digest
from orchestrator.cli.main import app
from orchestrator.journal.segments import read_state
from orchestrator.results.trained_model import fetched
from orchestrator.storage import open_storage
from tests.parts.trained_sweep import train_sweep

FINISHED, INTERRUPTED = "finished-20260101-000000-aaaa", "interrupted-20260101-000001-bbbb"
_UNLINKED = 0.15
"""Share of cases with journals of earlier versions: nothing proves their figures, so only tracebacks count."""

_CODES = (0, 1, 2)
_ODD_JSON = (b"null", b"[]", b"{}", b"0", b'"x"', b"[" * 50_000, b'{"sweep_id": NaN}', b"\xff\xfe\x00", b'{"a": 1e999}')


@dataclass(frozen=True)
class Shown:
    """What a command printed."""

    code: int
    stdout: str
    stderr: str
    error: str = ""
    """Traceback of what is none of our errors."""


@dataclass
class Findings:
    """What was tried, and what went wrong."""

    cases: int = 0
    commands: int = 0
    said: int = 0
    """Commands that named a problem."""
    kinds: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


class Sweeps:
    """A finished and an interrupted sweep in one storage, of which each case gets a copy."""

    def __init__(self, folder: Path) -> None:
        self.storage = folder / "storage"
        for sweep_id, interrupted in ((FINISHED, False), (INTERRUPTED, True)):
            train_sweep(str(self.storage), sweep_id, interrupted=interrupted)
        self._set_back()
        storage = open_storage(str(self.storage))
        self.best = {sweep: _best(read_state(storage, sweep).best()) for sweep in (FINISHED, INTERRUPTED)}
        self.files = sorted(path.relative_to(self.storage) for path in self.storage.rglob("*") if path.is_file())

    def _set_back(self) -> None:
        """Let all of it be an hour old: then no driver may be alive."""
        for path in self.storage.rglob("*"):
            hour_ago = path.stat().st_mtime - 3600
            os.utime(path, (hour_ago, hour_ago))

    def copy(self, target: Path) -> None:
        """A copy that shares its files with this one: they are replaced and removed, never changed in place."""
        shutil.copytree(self.storage, target, copy_function=os.link)


def _best(trial: object) -> str:
    return str(getattr(trial, "trial_id", ""))


Damage = Callable[[random.Random, bytes, list[bytes]], bytes | None]


def _flip(chance: random.Random, data: bytes, _: list[bytes]) -> bytes:
    changed = bytearray(data or b"\0")
    for _ in range(chance.choice((1, 1, 1, 8))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _digit(chance: random.Random, data: bytes, _: list[bytes]) -> bytes:
    places = [place for place, byte in enumerate(data) if 0x30 <= byte <= 0x39] or [0]
    place = chance.choice(places)
    return data[:place] + str(chance.randrange(10)).encode() + data[place + 1 :]


def _without_line(chance: random.Random, data: bytes, _: list[bytes]) -> bytes:
    lines = data.splitlines(keepends=True) or [b""]
    del lines[chance.randrange(len(lines))]
    return b"".join(lines)


DAMAGES: dict[str, Damage] = {
    "removed": lambda *_: None,
    "emptied": lambda *_: b"",
    "cut": lambda chance, data, _: data[: chance.randrange(len(data) + 1)],
    "cut at a line": lambda chance, data, _: b"".join(
        data.splitlines(keepends=True)[: chance.randrange(data.count(b"\n") + 1)]
    ),
    "a line less": _without_line,
    "bits flipped": _flip,
    "a digit changed": _digit,
    "appended to": lambda chance, data, _: data + chance.randbytes(chance.randrange(1, 40)),
    "a line twice": lambda _, data, __: data + b"".join(data.splitlines(keepends=True)[-1:]),
    "another file": lambda chance, _, others: chance.choice(others),
    "odd JSON": lambda chance, _, __: chance.choice(_ODD_JSON),
}


def _commands(sweep: str, trial: str) -> dict[str, tuple[str, ...]]:
    return {
        "list": ("list", "--all"),
        "list --json": ("list", "--all", "--json"),
        "status": ("status", sweep),
        "leaderboard": ("leaderboard", sweep),
        "show": ("show", f"{sweep}/{trial}"),
        "logs": ("logs", f"{sweep}/{trial}"),
        "stop": ("stop", sweep),
        "gc": ("gc", "--dry-run"),
        "gc --unreferenced": ("gc", "--unreferenced"),
        "verify": ("verify", sweep),
        "repair": ("repair", sweep, "--yes"),
    }


_UNCHANGED_UNLESS_SAID = ("list", "list --json", "leaderboard", "show")


def run_command(storage: Path, arguments: tuple[str, ...]) -> Shown:
    """Run a command in this process."""
    result = CliRunner().invoke(app, [*arguments, "--storage", str(storage)], env={"COLUMNS": "300"})
    error = ""
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        error = "".join(traceback.format_exception(result.exception))
    # Data sets stand in journals by the address of the storage in which they were trained.
    stdout, stderr = (
        text.replace(str(storage), "").replace(str(storage.with_name("storage")), "")
        for text in (result.stdout, result.stderr)
    )
    return Shown(result.exit_code, stdout, stderr, error)


def cases(seed: int, count: int, folder: Path) -> Findings:
    """Try ``count`` cases that follow from ``seed``, in ``folder``."""
    chance, findings = random.Random(seed), Findings()
    sweeps = Sweeps(folder)
    before = {
        (sweep, name): run_command(sweeps.storage, arguments)
        for sweep, trial in sweeps.best.items()
        for name, arguments in _commands(sweep, trial).items()
        if name not in ("stop", "gc --unreferenced", "repair")
    }
    for (sweep, name), shown in before.items():
        assert not shown.error, f"{name} {sweep}: {shown.error}"
        assert shown.code == 0, f"{name} {sweep}: {shown.stderr}"
    for number in range(count):
        copy = folder / f"case-{number}"
        sweeps.copy(copy)
        unlinked = chance.random() < _UNLINKED
        if unlinked:
            _unlink(copy)
        what = _damage(chance, sweeps, copy)
        findings.cases += 1
        findings.kinds[what.partition(":")[0]] += 1
        wrong = _look(chance, sweeps, copy, {} if unlinked else before, findings)
        findings.violations += [f"case {number}, {what}: {each}" for each in wrong]
        shutil.rmtree(copy)
    return findings


def _unlink(copy: Path) -> None:
    """Make the journals of a copy those of earlier versions, without links and digests."""
    for path in copy.glob("sweeps/*/journal/*.jsonl"):
        _replace(path, b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    for path in copy.glob("sweeps/*/summary.json"):
        document = json.loads(path.read_bytes())
        _replace(
            path, json.dumps({key: document[key] for key in document if key not in ("journal", "sha256")}).encode()
        )


def _replace(path: Path, data: bytes | None) -> None:
    """Another file in the place of one that the copy shares, as old as it; None: none."""
    modified = path.stat().st_mtime
    path.unlink()
    if data is not None:
        path.write_bytes(data)
        os.utime(path, (modified, modified))


def _damage(chance: random.Random, sweeps: Sweeps, copy: Path) -> str:
    """Damage one file of a copy; says which and how."""
    kind = chance.choice(list(DAMAGES))
    # Half of the cases are of the records; there are many more files of trials and data.
    records = [file for file in sweeps.files if "journal" in file.parts or file.name == "summary.json"]
    file = chance.choice(records if chance.random() < 0.5 else sweeps.files)
    others = [(sweeps.storage / chance.choice(sweeps.files)).read_bytes()]
    path = copy / file
    _replace(path, DAMAGES[kind](chance, path.read_bytes(), others))
    return f"{kind}: {file}"


def _look(
    chance: random.Random, sweeps: Sweeps, copy: Path, before: dict[tuple[str, str], Shown], findings: Findings
) -> Iterator[str]:
    sweep = chance.choice((FINISHED, INTERRUPTED))
    commands = _commands(sweep, sweeps.best[sweep])
    names = chance.sample(list(commands), 3)
    for name in sorted(names, key=lambda name: name in ("gc --unreferenced", "repair", "stop")):  # those change things
        shared = _shared(copy)
        shown = run_command(copy, commands[name])
        findings.commands += 1
        if shown.error:
            yield f"{name}: traceback: {shown.error}"
        if shown.code not in _CODES:
            yield f"{name}: exit code {shown.code}"
        if name == "gc --unreferenced" and shared - _shared(copy):
            yield f"{name}: deleted {sorted(shared - _shared(copy))[:3]}"
        known = before.get((sweep, name), Shown(0, shown.stdout, ""))
        said = set(shown.stderr.splitlines()) - set(known.stderr.splitlines())
        findings.said += bool(said)
        if name in _UNCHANGED_UNLESS_SAID and shown.code == 0 and shown.stdout != known.stdout and not said:
            yield f"{name}: shows something else and says nothing:\n{shown.stdout}\ninstead of\n{known.stdout}"
    yield from _model(sweeps, copy, sweep, proven=bool(before))


def _shared(copy: Path) -> set[Path]:
    """What sweeps share; every one of them needs its data."""
    return {path.relative_to(copy) for kind in ("datasets", "splits") for path in (copy / kind).rglob("*.parquet")}


def _model(sweeps: Sweeps, copy: Path, sweep: str, *, proven: bool) -> Iterator[str]:
    """The best trial's weights are those that were trained, or are refused; ``proven``: by a journal with links."""
    found: dict[Path, str] = {}
    for storage in (sweeps.storage, copy):
        try:
            with fetched(open_storage(str(storage)), f"{sweep}/{sweeps.best[sweep]}") as trained:
                found[storage] = f"{file_digest(trained.weights)} {trained.vocabulary} {trained.epoch}"
        except AgrError:
            continue
        except Exception:  # noqa: BLE001 - that is what is looked for
            yield f"predict: traceback: {traceback.format_exc()}"
    if proven and copy in found and found[copy] != found[sweeps.storage]:
        yield "predict: takes another model and says nothing"


def main() -> int:
    """Try the cases that the command line asks for; 1 if one went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="agr-damage-") as folder:
        os.environ.update(AGR_HOME=f"{folder}/home", MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db")
        findings = cases(arguments.seed, arguments.cases, Path(folder))
    print(
        f"seed {arguments.seed}: {findings.cases} cases, {findings.commands} commands, {findings.said} problems named"
    )
    print(", ".join(f"{kind} {count}" for kind, count in sorted(findings.kinds.items())))
    for violation in findings.violations:
        print(violation)
    print(f"{len(findings.violations)} violations")
    return 1 if findings.violations else 0


if __name__ == "__main__":
    sys.exit(main())
