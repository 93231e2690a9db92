"""``agr serve`` as a process of its own, asked over HTTP."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from agr_core.data.pack import Packed
from orchestrator.serving.app import listen


@pytest.mark.slow
def test_the_server_gives_the_answers_of_predict_until_it_is_told_to_end(
    trial: str, tmp_path: Path, agr: Callable[..., Result]
) -> None:
    face = tmp_path / "face.png"
    face.write_bytes(Packed.open(tmp_path / "packed").image_bytes([0])[0])
    expected = json.loads(agr("predict", str(face), "--model", trial, "--no-crop", "--json").stdout)[0]
    command = [sys.executable, "-m", "orchestrator.cli.main", "serve", "--model", trial, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stderr is not None
        said = ""
        try:
            while not (found := re.search(r"http://127\.0\.0\.1:\d+", said)):
                line = process.stderr.readline()
                assert line, said
                said += line
            url = f"{found.group()}/predict?name={face}&crop=false"
            with urllib.request.urlopen(url, data=face.read_bytes(), timeout=60) as answer:
                (found_face,) = json.load(answer)["faces"]
            with urllib.request.urlopen(f"{found.group()}/models", timeout=60) as answer:
                assert [one["trial_id"] for one in json.load(answer)["models"]] == [trial]
        finally:
            process.send_signal(signal.SIGINT)
            ended = process.wait(timeout=60)
    (expected_face,) = expected["faces"]
    assert found_face["age"] == pytest.approx(expected_face["age"])
    for task, shares in expected_face["probabilities"].items():
        assert found_face["probabilities"][task] == pytest.approx(shares)
    assert ended == 0


def test_a_port_that_is_taken_is_refused(trial: str, agr: Callable[..., Result]) -> None:
    with listen(0) as listener:
        port = listener.getsockname()[1]
        result = agr("serve", "--model", trial, "--port", str(port), code=2)
    assert f"error: port {port} of 127.0.0.1 cannot be used" in result.stderr
