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

from agr_core.data.packed.pack import Packed
from orchestrator.cli.serve import described
from orchestrator.results.trained_model import fetched
from orchestrator.serving.app import listen
from orchestrator.storage import open_storage


@pytest.mark.slow
def test_the_server_gives_the_answers_of_predict_until_a_signal_ends_it(
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


def test_a_server_that_could_not_find_faces_is_refused_before_it_listens(
    trial: str, agr: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agr_core.data.face_crop.DETECTOR_PACKAGE", "no-such-detector")
    result = agr("serve", "--model", trial, "--port", "0", code=2)
    assert "no-such-detector, which is not installed" in result.stderr
    assert "`make venv`" in result.stderr
    assert "pip install 'agr-sweeps[crop]'" in result.stderr
    assert "http://" not in result.stderr


def test_the_page_shows_that_a_model_has_only_seen_drawn_faces(trial: str, tmp_path: Path) -> None:
    with fetched(open_storage(str(tmp_path / "storage")), trial) as trained:
        assert described(trained)["only_drawn"] is True


def test_a_port_that_is_taken_is_refused(trial: str, agr: Callable[..., Result]) -> None:
    with listen(0) as listener:
        port = listener.getsockname()[1]
        result = agr("serve", "--model", trial, "--port", str(port), code=2)
    assert f"error: port {port} of 127.0.0.1 cannot be used" in result.stderr
