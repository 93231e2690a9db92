"""Runs the quick tests against a sample of small changes of the code, and says which changes no test sees.

Cosmic Ray finds the places and makes the changes ("mutants"), in a copy of the tree. A first run of the tests records
which test reaches which line; a mutant is then run against the tests that reach its statement, the shortest first,
until one fails. Each run is a fork of a process that has imported everything but the code that is changed. From one
seed the same sample follows::

    python -m tests.mutants.mutants --sample 200 --seed 1

``build/mutants`` has the mutants that survived (``survivors.txt``), and Cosmic Ray's session for ``cr-html``.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import gc
import importlib
import json
import math
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import coverage
import pytest
from cosmic_ray.commands.init import init
from cosmic_ray.modules import filter_paths, find_modules
from cosmic_ray.mutating import use_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkItem, WorkResult

CONFIG = "tests/mutants/mutants.toml"
EQUIVALENT = "tests/mutants/equivalent.toml"
_TESTS_S = 15.0
"""A mutant is run against the shortest tests that reach it, of at most this much CPU time together."""
_SPARE_S = 30.0
"""They fail after three times the CPU time that they take without the mutant, and this much more."""
_SILENT_S = 900.0
"""Longest time of a mutant's tests, however little CPU time they take."""


_TOO_LONG = -1
_OUTCOMES = {
    pytest.ExitCode.OK: TestOutcome.SURVIVED,
    pytest.ExitCode.TESTS_FAILED: TestOutcome.KILLED,
    _TOO_LONG: TestOutcome.KILLED,
}
"""Any other exit code means that no test could be run: the change leaves a module that cannot be imported."""


@dataclass(frozen=True)
class Place:
    """A node of a module's syntax tree that Cosmic Ray can change."""

    module: str
    start: tuple[int, int]
    """Line from 1, column from 0."""


@dataclass
class Baseline:
    """The tests without a mutant."""

    seconds: dict[str, float] = field(default_factory=dict)
    """CPU time by test."""
    reached: dict[str, dict[int, list[str]]] = field(default_factory=dict)
    """Tests by module and line. Lines that run on import have the test ``""``."""


@dataclass
class Score:
    """What became of the mutants of one module."""

    run: int = 0
    killed: int = 0
    equivalent: int = 0
    broken: int = 0
    """Mutants that leave a module which cannot be imported: no test is needed to see them."""


class _Recorder:
    """Pytest plugin that records CPU seconds and lines of each test."""

    def __init__(self, include: list[str]) -> None:
        self.seconds: dict[str, float] = {}
        self._coverage = coverage.Coverage(data_file=None, include=include, config_file=False)

    def __enter__(self) -> _Recorder:
        self._coverage.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._coverage.stop()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        began = time.process_time()
        self._coverage.switch_context(item.nodeid)
        yield
        self._coverage.switch_context("")
        self.seconds[item.nodeid] = time.process_time() - began

    def baseline(self, root: Path) -> Baseline:
        data = self._coverage.get_data()
        reached = {
            str(Path(name).relative_to(root)): data.contexts_by_lineno(name) for name in sorted(data.measured_files())
        }
        return Baseline(dict(self.seconds), reached)


def copy_tree(root: Path, target: Path) -> None:
    """Copy the files that git knows or does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name)


def annotations(source: str) -> set[tuple[int, int]]:
    """Return line and column of every node of an annotation: they change nothing that runs, or fail at import."""
    tree = ast.parse(source)
    nodes = [getattr(node, name, None) for node in ast.walk(tree) for name in ("annotation", "returns")]
    return {
        (line, column)
        for node in nodes
        if node is not None
        for line in range(node.lineno, node.end_lineno + 1)
        for column in range(
            node.col_offset if line == node.lineno else 0,
            node.end_col_offset if line == node.end_lineno else 200,
        )
    }


def statement_lines(source: str, line: int) -> range:
    """Return the lines of the innermost statement at ``line``; of a compound statement those before its body."""
    innermost = range(line, line + 1)
    for node in ast.walk(ast.parse(source)):  # breadth first, so that inner statements come later
        if not isinstance(node, ast.stmt):
            continue
        body = getattr(node, "body", None)
        end = body[0].lineno - 1 if body else node.end_lineno
        start = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
        if start <= line <= max(end or start, start):
            innermost = range(start, max(end or start, start) + 1)
    return innermost


def drawn(items: list[WorkItem], count: int, seed: int, root: Path) -> list[WorkItem]:
    """Return one mutant each of ``count`` places, drawn evenly over places; all where there are fewer."""
    left_out = {module: annotations((root / module).read_text(encoding="utf-8")) for module in _modules(items)}
    by_place: dict[Place, list[WorkItem]] = defaultdict(list)
    for item in items:
        mutation = item.mutations[0]
        module = str(mutation.module_path)
        if mutation.start_pos not in left_out[module]:
            by_place[Place(module, tuple(mutation.start_pos))].append(item)
    chance = random.Random(seed)
    places = sorted(by_place, key=lambda place: (place.module, place.start))
    chosen = chance.sample(places, min(count, len(places)))

    def name(item: WorkItem) -> tuple[str, int]:
        return item.mutations[0].operator_name, item.mutations[0].occurrence

    return [chance.choice(sorted(by_place[place], key=name)) for place in chosen]


def _modules(items: list[WorkItem]) -> set[str]:
    return {str(item.mutations[0].module_path) for item in items}


def shortest_reaching(mutation: MutationSpec, source: str, baseline: Baseline) -> list[str]:
    """Return the shortest tests that reach a mutant's statement; if it runs on import, of those of the module."""
    reached = baseline.reached.get(str(mutation.module_path), {})
    tests = {test for line in statement_lines(source, mutation.start_pos[0]) for test in reached.get(line, ())}
    if "" in tests:
        tests = {test for line in reached.values() for test in line}
    shortest_first = sorted(tests - {""}, key=lambda test: (baseline.seconds[test], test))
    so_far = accumulate(baseline.seconds[test] for test in shortest_first)
    return [
        test for test, seconds in zip(shortest_first, so_far, strict=True) if seconds <= _TESTS_S
    ] or shortest_first[:1]


def in_fork(run: Callable[[], int], log: Path, cpu_s: float) -> int:
    """Call ``run`` in a forked process of its own group; return its exit code, negative if it took too long."""

    def body() -> None:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(cpu_s), math.ceil(cpu_s)))
        with log.open("w", encoding="utf-8") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            code = int(run())
        os._exit(code)  # what a mutant left running in threads must not hold the process

    gc.freeze()  # else each collection of the fork goes through, and copies, all that is imported here
    process = multiprocessing.get_context("fork").Process(target=body)
    process.start()
    process.join(_SILENT_S)
    with contextlib.suppress(ProcessLookupError):  # nothing is left of the group
        os.killpg(process.pid or 0, signal.SIGKILL)
    process.join()
    return _TOO_LONG if process.exitcode is None or process.exitcode < 0 else process.exitcode


def _pytest(arguments: list[str], plugins: list[object]) -> int:
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # those that nothing here uses take a third of a second
    used = ["-p", "pytest_timeout", "-p", "_hypothesis_pytestplugin", "-p", "no:cacheprovider"]
    return pytest.main(["-q", *used, "--hypothesis-seed=0", *arguments], plugins=plugins)


def measure(root: Path, folder: Path, selection: Mapping[str, Any], include: list[str]) -> Baseline:
    """Run all tests once, which must pass; a run that is continued has the figures already."""
    result = folder / "baseline.json"

    def run() -> int:
        with _Recorder(include) as recorder:
            code = _pytest(["-m", selection["markers"], *selection["tests"]], [recorder])
        baseline = recorder.baseline(root)
        result.write_text(json.dumps([baseline.seconds, baseline.reached]), encoding="utf-8")
        return code

    log = folder / "baseline.log"
    if not result.exists() and (code := in_fork(run, log, 3600.0)) != 0:
        raise SystemExit(f"Without any mutant the tests end with exit code {code}; see {log}.")
    seconds, reached = json.loads(result.read_text(encoding="utf-8"))
    return Baseline(
        seconds, {module: {int(line): tests for line, tests in of.items()} for module, of in reached.items()}
    )


def check_unchanged(baseline: Baseline, log: Path) -> None:
    """Run the shortest tests as for a mutant, without one: else whatever fails here would kill all mutants."""
    tests = sorted(baseline.seconds, key=lambda test: (baseline.seconds[test], test))[:10]
    if (code := in_fork(lambda: _pytest(["-x", *tests], []), log, _SPARE_S)) != pytest.ExitCode.OK:
        raise SystemExit(f"Without any mutant the shortest tests end with exit code {code}; see {log}.")


def try_mutant(item: WorkItem, baseline: Baseline, log: Path) -> WorkResult:
    """Change one file, run the tests that reach the change, and change it back."""
    mutation = item.mutations[0]
    source = mutation.module_path.read_text(encoding="utf-8")
    tests = shortest_reaching(mutation, source, baseline)
    operator = get_operator(mutation.operator_name)(**mutation.operator_args)
    with use_mutation(mutation.module_path, operator, mutation.occurrence) as (before, after):
        assert after is not None, f"{mutation} changes nothing"
        diff = changed_line(before, after)
        if not tests:
            log.write_text("no test reaches this line\n", encoding="utf-8")
            return _result(TestOutcome.SURVIVED, log.read_text(encoding="utf-8"), diff)
        longest = _SPARE_S + 3 * sum(baseline.seconds[test] for test in tests)

        def run() -> int:
            sys.dont_write_bytecode = True  # the next mutant may be as long and of the same second
            return _pytest(["-x", *tests], [])

        code = in_fork(run, log, longest)
    outcome = _OUTCOMES.get(code, TestOutcome.INCOMPETENT)
    output = "too long" if code < 0 else log.read_text(encoding="utf-8", errors="replace")[-4000:]
    return _result(outcome, output, diff)


def _result(outcome: TestOutcome, output: str, diff: str) -> WorkResult:
    return WorkResult(worker_outcome=WorkerOutcome.NORMAL, output=output, test_outcome=outcome, diff=diff)


def changed_line(before: str, after: str) -> str:
    """Return the first lines that differ, one with - and one with +."""
    for old, new in zip(before.splitlines(), after.splitlines(), strict=False):
        if old != new:
            return f"- {old.strip()}\n+ {new.strip()}"
    return f"- {before.splitlines()[-1]}\n+"


def known_equivalents(root: Path) -> dict[tuple[str, str], str]:
    """Return reasons by module and change of the mutants that behave as the code does."""
    path = root / EQUIVALENT
    if not path.exists():
        return {}
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
    return {(entry["module"], f"- {entry['line']}\n+ {entry['becomes']}"): entry["why"] for entry in entries}


def report(items: list[tuple[WorkItem, WorkResult]], root: Path, folder: Path) -> str:
    """Return a table of killed mutants by module; writes the survivors beside it."""
    equivalents, scores = known_equivalents(root), defaultdict(Score)
    survivors = []
    for item, result in sorted(
        items, key=lambda pair: (str(pair[0].mutations[0].module_path), pair[0].mutations[0].start_pos)
    ):
        mutation = item.mutations[0]
        module = str(mutation.module_path)
        score = scores[module]
        if result.test_outcome is TestOutcome.INCOMPETENT:
            score.broken += 1
        elif result.test_outcome is TestOutcome.KILLED:
            score.run, score.killed = score.run + 1, score.killed + 1
        elif (module, result.diff) in equivalents:
            score.equivalent += 1
        else:
            score.run += 1
            unreached = "no test reaches" in (result.output or "")
            where = f"{module}:{mutation.start_pos[0]} {mutation.definition_name or ''} {mutation.operator_name}"
            survivors.append(f"{where}{' (no test reaches it)' if unreached else ''}\n{result.diff}\n")
    (folder / "survivors.txt").write_text("\n".join(survivors), encoding="utf-8")
    total = Score(*(sum(getattr(score, name) for score in scores.values()) for name in Score.__dataclass_fields__))
    rows = [*((f"`{module}`", score) for module, score in scores.items()), ("all", total)]
    lines = ["| module | mutants | killed | survived | equivalent | not importable |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {name} | {score.run} | {score.killed} | {score.run - score.killed} | {score.equivalent} | {score.broken} |"
        for name, score in rows
    ]
    lines.append(f"\n{total.killed} of {total.run} killed: {total.killed / max(total.run, 1):.1%}")
    return "\n".join(lines)


def open_session(folder: Path, config: Mapping[str, Any], count: int, seed: int) -> WorkDB:
    """Return Cosmic Ray's session with the sample; one that is there already goes on."""
    path = folder / "session.sqlite"
    if path.exists():
        return WorkDB(str(path), WorkDB.Mode.open)
    session = WorkDB(str(path), WorkDB.Mode.create)
    modules = find_modules([Path(path) for path in config["module-path"]])
    init(sorted(filter_paths(modules, config["excluded-modules"])), session, {})
    sample = drawn(list(session.work_items), count, seed, Path.cwd())
    session.clear()
    session.add_work_items(sample)
    return session


def run_sample(folder: Path, count: int, seed: int, only: list[str]) -> int:
    """Try ``count`` mutants of the tree in the working folder, and print the table."""
    root = Path.cwd()
    config = tomllib.loads((root / CONFIG).read_text(encoding="utf-8"))
    paths, selection = config["cosmic-ray"]["module-path"], config["selection"]
    sys.path[:0] = [str(root)]
    for name in selection["preload"]:
        importlib.import_module(name)
    changed = tuple(path.replace("/", ".") for path in paths)
    assert not any(name.startswith(changed) for name in sys.modules), "forks must import what is changed themselves"
    began = time.monotonic()
    baseline = measure(root, folder, selection, [f"{root}/{path}/*" for path in paths])
    print(f"{len(baseline.seconds)} tests in {sum(baseline.seconds.values()):.0f} s of CPU time", flush=True)
    check_unchanged(baseline, folder / "mutant.log")
    session = open_session(folder, config["cosmic-ray"], count, seed)
    known, items = dict(session.results), session.work_items
    for number, item in enumerate(items, start=1):
        module = str(item.mutations[0].module_path)
        if item.job_id in known or (only and module not in only):
            continue
        result = try_mutant(item, baseline, folder / "mutant.log")
        session.set_result(item.job_id, result)
        place = f"{module}:{item.mutations[0].start_pos[0]}"
        print(
            f"{time.monotonic() - began:6.0f} s {number}/{len(items)} {result.test_outcome.value} {place}", flush=True
        )
    text = report(list(session.completed_work_items), root, folder)
    session.close()
    (folder / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


def main() -> int:
    """Copy the tree and try the mutants there, in a process that has the copy on its path."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=200, help="mutants to try")
    parser.add_argument("--seed", type=int, default=1, help="which are drawn")
    parser.add_argument("--folder", type=Path, default=Path("build/mutants"), help="copy of the tree, and results")
    parser.add_argument(
        "--only", action="append", default=[], metavar="MODULE", help="of the sample, those of a module"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in the folder, on its copy of the tree"
    )
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    if arguments.here:
        return run_sample(folder, arguments.sample, arguments.seed, arguments.only)
    if not arguments.resume:
        shutil.rmtree(folder, ignore_errors=True)
        copy_tree(Path.cwd(), folder / "original")
    # A run that was killed leaves its mutant in the tree.
    shutil.copytree(folder / "original", folder / "tree", dirs_exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder / "tree")}
    command = [sys.executable, __file__, *sys.argv[1:], "--here", "--folder", str(folder)]
    return subprocess.run(command, cwd=folder / "tree", env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
