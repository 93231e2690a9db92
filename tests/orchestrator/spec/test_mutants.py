"""Two thousand mutants of the shipped sweep files; ``tests/fuzz/sweep_files.py`` makes as many as one likes.

The script looks at speed, alone on its machine; here the limit only ends a case that hangs.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.sweep_files import mutant, run_case


@pytest.mark.parametrize("first", range(0, 2000, 250))
def test_a_mutant_loads_or_is_refused_in_words(tmp_path: Path, first: int) -> None:
    failures = [
        f"case {number}: {outcome.kind} {outcome.details}"
        for number in range(first, first + 250)
        if (outcome := run_case(0, number, tmp_path, limit_s=30)).failed
    ]
    assert not failures, "\n".join(failures)


def test_a_case_is_a_function_of_its_number() -> None:
    first = [mutant(0, number) for number in range(100)]
    for number in range(100):  # what other cases leave behind must not matter
        mutant(1, number)
    assert [mutant(0, number) for number in range(100)] == first
