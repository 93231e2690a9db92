"""``make simulate``: run many seeds and print faults injected and rules broken; exit code 1 on any violation."""

from __future__ import annotations

# ruff: noqa: T201 - a command-line program
import argparse
import logging
import multiprocessing
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence

from orchestrator.simulation.checks import violations
from orchestrator.simulation.schedule import run_schedule
from orchestrator.simulation.world import Stuck


def run_seed(seed: int) -> tuple[int, list[str], dict[str, int]]:
    """Run one schedule; return its seed, the violations, and the number of faults of each kind.

    An exception that would not end a real driver also counts as a violation.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        outcome = run_schedule(str(seed))
    except Stuck as stuck:
        return seed, [str(stuck)], {}
    except Exception as error:  # noqa: BLE001 - reports errors of the product and of the simulation alike
        return seed, [f"{type(error).__name__}: {error}"], {}
    finally:
        logging.disable(disabled)
    return seed, violations(outcome), Counter(kind_of(what) for what in outcome.world.happened)


def kind_of(what: str) -> str:
    """Return a line of ``World.happened`` without times, names and numbers."""
    text = what.partition(": ")[2]
    for verb in ("is held up", "no answer", "succeeds and is not answered", "is refused", "is killed", "out of order"):
        if verb in text:
            return f"{'driver' if 'driver' in text else 'worker' if 'worker' in text else 'writer'}: {verb}"
    return re.sub(r"(driver|node) [\d-]+", r"a \1", text)


def run_seeds(
    seeds: Sequence[int], *, processes: int, tell: Callable[[str], None] = lambda _: None
) -> tuple[dict[int, list[str]], Counter[str]]:
    """Run all seeds on several processes; return violations by seed, and the total number of faults by kind.

    ``tell`` is called with each violation, and with the progress after every hundred seeds.
    """
    violated: dict[int, list[str]] = {}
    tried: Counter[str] = Counter()
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        for done, (seed, broken, happened) in enumerate(pool.imap_unordered(run_seed, seeds, chunksize=4), start=1):
            tried.update(happened)
            if broken:
                violated[seed] = broken
                tell(f"seed {seed}: {'; '.join(broken[:3])}")
            if done % 100 == 0:
                tell(f"{done} of {len(seeds)} schedules")
    return violated, tried


def main() -> None:
    """Run the seeds and print the table of results."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.simulation", description=__doc__)
    parser.add_argument("--seeds", default="0-999", help="such as 0-999, or one number")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    first, _, last = arguments.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    began = time.monotonic()
    violated, tried = run_seeds(
        seeds, processes=arguments.processes, tell=lambda line: print(line, file=sys.stderr, flush=True)
    )
    for what, count in sorted(tried.items(), key=lambda kind_and_count: -kind_and_count[1]):
        print(f"{count:8d}  {what}")
    for seed, broken in sorted(violated.items()):
        print(f"seed {seed}: {'; '.join(broken[:3])}")
    seconds = time.monotonic() - began
    print(f"{len(seeds)} schedules in {seconds:.0f} s, {sum(tried.values())} faults and commands: ", end="")
    print(f"{len(violated)} broke a rule")
    sys.exit(1 if violated else 0)


if __name__ == "__main__":
    main()
