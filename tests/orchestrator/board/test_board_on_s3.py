"""``agr board`` on a sweep in an S3 store: the command itself, from its first page to its end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from orchestrator.storage import open_storage
from tests.parts.recorded_sweep import RecordedSweep

pytestmark = [pytest.mark.services, pytest.mark.slow]

_PATIENCE_S = 60.0


@contextmanager
def board(*arguments: str) -> Iterator[str]:
    """The address of a running ``agr board``, which must end by itself after Ctrl-C."""
    command = [sys.executable, "-m", "orchestrator.cli.main", "board", *arguments, "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        address = re.match(r"(http://127\.0\.0\.1:\d+) follows ", line)
        assert address is not None, line + process.stderr.read()
        yield address[1]
        process.send_signal(2)
        assert process.wait(timeout=_PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def figures(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{address}/figures", timeout=_PATIENCE_S) as response:
        document: dict[str, Any] = json.load(response)
    return document


def once(address: str, seen: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The figures as soon as they show what is asked for."""
    deadline = time.monotonic() + _PATIENCE_S
    while not seen(document := figures(address)):
        assert time.monotonic() < deadline, document["sweeps"]
        time.sleep(0.2)
    return document


def test_it_follows_a_sweep_in_a_bucket_to_its_end(s3_uri: str) -> None:
    sweep = RecordedSweep(open_storage(s3_uri))
    first = sweep.trial(0, [9.0, 7.0], files=True)

    with board(sweep.sweep_id, "--storage", s3_uri) as address:
        shown = figures(address)
        assert (shown["running"], shown["head"]["trial_id"]) == (True, first)
        assert f"--storage {s3_uri}" in shown["leaderboard"]["rows"][0]["rerun"]
        assert [side["trial"] for data in shown["confusion"] for side in data["sides"]] == [first]  # from metrics.jsonl

        better = sweep.trial(1, [8.0, 6.0], files=True)
        sweep.end()
        shown = once(address, lambda document: not document["running"])
        assert shown["head"]["trial_id"] == better
        assert [row["trial"] for row in shown["leaderboard"]["rows"]] == [better, first]
        with urllib.request.urlopen(f"{address}/events", timeout=_PATIENCE_S) as stream:
            assert stream.readline() == b"event: figures\n"
            assert json.loads(stream.readline().removeprefix(b"data: "))["head"]["trial_id"] == better


def test_a_bucket_without_the_sweep_is_said_in_one_line(s3_uri: str) -> None:
    command = [sys.executable, "-m", "orchestrator.cli.main", "board", "faces", "--storage", s3_uri, "--port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)

    assert ended.returncode == 2
    assert re.fullmatch(rf"error: .*{re.escape(s3_uri)}.*\n", ended.stderr)
