"""Mutants of the shipped sweep files: each loads, or is refused in words with the lines to mend, within two seconds.

    python tests/fuzz/sweep_files.py --cases 100000 [--seed 0] [--first 0]

A case is a function of the seed and its number, so that a failure is repeated by `--first NUMBER --cases 1`. Mutants
change the text (bytes, lines, tokens) or the document (values, keys, whole parts, exchanged with others). Prints each
failure with its number, the counts, and the slowest case; exits with 1 if there was a failure.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from agr_core.errors import InputError
from orchestrator.errors import SpecError
from orchestrator.spec.load import load_sweep

ROOT = Path(__file__).parents[2]
LIMIT_S = 2.0

TOKENS = (
    "\x00",
    "\x07",
    "\u00a0",
    "\u2028",
    "\ufeff",
    '"\\ud83d"',
    '"\\0"',
    '"\\U00110000"',
    "\t",
    "%",
    "&a",
    "*a",
    "!!float abc",
    "!!python/object:os.system",
    "<<: {}",
    "---",
    "...",
    "? ",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "#",
    "|",
    ">",
    "'",
    '"',
    "~",
    "null",
    "yes",
    "1e999",
    ".inf",
    "-.inf",
    ".nan",
    "0x7fffffffffffffffff",
    "9" * 400,
    "1:30",
    "-0",
    "1_000",
    "0o17",
)

VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2**63,
    2**63 - 1,
    -(2**70),
    0.0,
    -0.5,
    1e300,
    1e-300,
    float("inf"),
    float("nan"),
    "",
    " ",
    "x",
    "none",
    "\n",
    "a" * 5000,
    "é",
    "/etc/passwd",
    "s3://a/b",
    "trial:abc",
    [],
    [[]],
    [None],
    [1, 2],
    [[1, 2], [3]],
    {},
    {"name": "x"},
    {"choice": []},
    {"choice": [1, [2]]},
    {"uniform": [0, 1]},
    {"uniform": [1]},
    {"randint": [5, 1]},
    {"loguniform": [0, 1]},
    {"min": 0, "max": 1},
    {"values": [1, 2]},
    {"_type": "choice", "_value": [1]},
    {"name": ["a", "b"]},
    {"": 1},
    {"from": "x"},
)

KEYS = ("name", "Name", "encoding", "id", "init", "extends", "", "stages")

Mutator = Callable[[str, random.Random], str]


@dataclass(frozen=True)
class Outcome:
    """What became of a case: ``accepted``, ``refused`` or a failure in words; the seconds of CPU time it took."""

    kind: str
    seconds: float
    details: str = ""

    @property
    def failed(self) -> bool:
        """Whether the case ended as no sweep file may."""
        return self.kind not in ("accepted", "refused")


@lru_cache(maxsize=1)
def shipped() -> tuple[str, ...]:
    """The texts of the sweep files of the repository."""
    return tuple(path.read_text(encoding="utf-8") for path in sorted((ROOT / "sweeps").rglob("*.yaml")))


@lru_cache(maxsize=64)
def _document(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def mutant(seed: int, number: int) -> str:
    """The text of one case."""
    chance = random.Random(f"{seed}/{number}")
    text = chance.choice(shipped())
    if chance.random() < 0.6:
        document = json.loads(json.dumps(_document(text)))
        for _ in range(chance.randint(1, 4)):
            _change_document(document, chance)
        return _as_yaml(document, chance)
    for _ in range(chance.randint(1, 6)):
        text = chance.choice(TEXT_MUTATORS)(text, chance)
    return text


def _flip(text: str, chance: random.Random) -> str:
    at = chance.randrange(len(text) + 1)
    return text[:at] + chr(chance.randrange(1, 300)) + text[at + 1 :]


def _insert(text: str, chance: random.Random) -> str:
    at = chance.randrange(len(text) + 1)
    return text[:at] + chance.choice(TOKENS) + text[at:]


def _lines(text: str, chance: random.Random) -> str:
    lines = text.splitlines(keepends=True) or [""]
    first, second = chance.randrange(len(lines)), chance.randrange(len(lines))
    match chance.randrange(4):
        case 0:
            del lines[first]
        case 1:
            lines.insert(first, lines[second])
        case 2:
            lines[first], lines[second] = lines[second], lines[first]
        case _:
            lines[first] = " " * chance.randrange(1, 9) + lines[first].lstrip(" ")
    return "".join(lines)


def _cut(text: str, chance: random.Random) -> str:
    return text[: chance.randrange(len(text) + 1)]


def _nest(text: str, chance: random.Random) -> str:
    depth = chance.choice([10, 60, 500])
    return text + "\ndeep: " + chance.choice(["[", "{a: "]) * depth


def _repeat(text: str, chance: random.Random) -> str:
    count = chance.choice([100, 1000])
    return text + "\nwide: [" + ", ".join(str(number) for number in range(count)) + "]\n"


TEXT_MUTATORS: tuple[Mutator, ...] = (_flip, _insert, _insert, _lines, _lines, _cut, _nest, _repeat)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from _paths(item, (*path, key))


def _change_document(document: Any, chance: random.Random) -> None:
    paths = list(_paths(document))
    if not paths:
        return
    path = chance.choice(paths)
    parent = document
    for part in path[:-1]:
        parent = parent[part]
    key = path[-1]
    match chance.randrange(6):
        case 0:
            del parent[key]
        case 1 | 2:
            parent[key] = copy.deepcopy(chance.choice(VALUES))
        case 3 if isinstance(parent, dict):
            parent[chance.choice(["name", "Name", "encoding", "id", "init", "extends", f"{key}x", "", "stages"])] = (
                parent.pop(key)
            )
        case 4:
            other = document
            for part in chance.choice(paths):
                if not isinstance(other, (dict, list)) or (isinstance(other, dict) and part not in other):
                    break
                if isinstance(other, list) and not (isinstance(part, int) and part < len(other)):
                    break
                other = other[part]
            parent[key] = json.loads(json.dumps(other))
        case _:
            parent[key] = [parent[key]] * chance.choices([1, 2, 40, 2000], weights=[30, 30, 30, 1])[0]


def _as_yaml(value: Any, chance: random.Random) -> str:
    """JSON, which is YAML, a key of the root in each line; now and then with a token in the place of a value."""
    if not isinstance(value, dict):
        return json.dumps(value)
    lines = [
        f"{json.dumps(key)}: {json.dumps(item, ensure_ascii=chance.random() < 0.5)}" for key, item in value.items()
    ]
    text = "\n".join(lines).replace("Infinity", ".inf").replace("NaN", ".nan")
    return _insert(text, chance) if chance.random() < 0.15 else text


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError(f"more than {seconds:g} s of CPU time")

    signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def run_case(seed: int, number: int, folder: Path, limit_s: float = LIMIT_S) -> Outcome:
    """Load one mutant, under one of its profiles now and then."""
    text = mutant(seed, number)
    file = folder / "mutant.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    profile = random.Random(f"{seed}/{number}/profile").choice([None, None, "cpu"])
    started = time.process_time()
    try:
        with _at_most(limit_s):
            load_sweep(file, profile=profile)
    except SpecError as error:
        kind = "refused"
        placeless = [each for each in error.problems if each.line < 1 and each.path != "--profile"]
        if placeless or not error.problems:
            return Outcome("a problem without a line", time.process_time() - started, str(error)[:500])
    except InputError as error:
        return Outcome("an error without a line", time.process_time() - started, str(error)[:500])
    except TimeoutError as error:
        return Outcome(str(error), time.process_time() - started)
    except Exception:  # noqa: BLE001 - what is searched for
        return Outcome("a traceback", time.process_time() - started, traceback.format_exc()[-1500:])
    else:
        kind = "accepted"
    return Outcome(kind, time.process_time() - started)


def main() -> int:
    """Run the cases and print what failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    counts: Counter[str] = Counter()
    slowest = (0.0, -1)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.first, arguments.first + arguments.cases):
            outcome = run_case(arguments.seed, number, Path(folder))
            counts[outcome.kind] += 1
            slowest = max(slowest, (outcome.seconds, number))
            if outcome.failed:
                print(f"case {number}: {outcome.kind}\n{outcome.details}", flush=True)
    print(", ".join(f"{count:,} {kind}" for kind, count in counts.most_common()))
    print(f"the slowest took {slowest[0]:.2f} s: case {slowest[1]}")
    return int(any(kind not in ("accepted", "refused") for kind in counts))


if __name__ == "__main__":
    sys.exit(main())
