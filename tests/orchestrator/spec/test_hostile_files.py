"""A sweep file from a stranger: it may be refused, it may not hurt. Each refusal comes within seconds."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from agr_core.errors import InputError
from orchestrator.spec.load import load_sweep

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
FILES = {
    "a bomb of aliases": (BOMB, "more than 100,000 values"),
    "flat brackets": ("[" * 20_000, "nested deeper"),
    "deep mappings": ("\n".join(" " * depth + "a:" for depth in range(400)), "nested deeper"),
    "an alias of itself": ("name: &a [*a]", "inside its own anchor"),
    "a number of 100,000 digits": ("seed: " + "9" * 100_000, "not a finite number of 64 bits"),
    "a hexadecimal one": ("seed: 0x" + "f" * 100_000, "not a finite number of 64 bits"),
    "an object of Python": ('name: !!python/object/apply:os.system ["touch gone"]', "must be text"),
    "a file too long": ("# " + "x" * 2**17, "is larger than 128 KiB"),
    "a name that is a path": ("name: ../../etc/cron.d/x", "is not a valid name of a sweep"),
    "an escape sequence as a label": ('variants: {"\\e[2J": {batch_size: 8}}', r"U\+001B \(control character\)"),
}


@pytest.mark.parametrize("what", FILES)
def test_a_hostile_file_is_refused_with_the_reason(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text, reason = FILES[what]
    (tmp_path / "evil.yaml").write_text(text)
    began = time.process_time()

    with pytest.raises(InputError, match=reason):
        load_sweep(tmp_path / "evil.yaml")

    assert time.process_time() - began < 20
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("base", ["pipe", "/dev/zero", "."])
def test_what_is_no_file_is_not_extended(base: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    (tmp_path / "evil.yaml").write_text(f"extends: {base}")

    with pytest.raises(InputError, match="is not a file"):
        load_sweep(tmp_path / "evil.yaml")


def test_extending_a_file_that_is_no_sweep_file_shows_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("hunter2-is-the-password\n")
    (tmp_path / "evil.yaml").write_text("extends: credentials")

    with pytest.raises(InputError, match="it holds no mapping") as refused:
        load_sweep(tmp_path / "evil.yaml")
    assert "hunter2" not in str(refused.value)
