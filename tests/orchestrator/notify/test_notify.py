"""Messages about a sweep, to a real web server and to one that is not there."""

from __future__ import annotations

import http.server
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from agr_core.errors import InputError
from orchestrator.cli.main import app
from orchestrator.journal.events import (
    AttemptStarted,
    BudgetNearlySpent,
    ControlReceived,
    DriverStarted,
    NodeLeft,
    NodeQuarantined,
    Spent,
    SweepEnded,
)
from orchestrator.notify.messages import IDLE_S, Messages
from orchestrator.notify.notifier import Addresses, Notifier

SECRET = "tell-nobody-4711"


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A webhook's address, with a secret, and what it got."""
    got: list[dict[str, Any]] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"json://agr:{SECRET}@127.0.0.1:{server.server_port}/hook", got
    server.shutdown()
    thread.join()
    server.server_close()


def driver(time: float) -> DriverStarted:
    return DriverStarted(time=time, driver_id="d", host="h", pid=1, resumed=False)


def test_what_is_worth_a_message_is_sent_to_every_address(hook: tuple[str, list[dict[str, Any]]]) -> None:
    address, got = hook
    notifier = Notifier(Addresses(f"{address}, {address}"), "faces-1")
    notifier(driver(0))
    notifier(BudgetNearlySpent(time=1, budget="usd", spent=9.0, limit=10.0))
    notifier(NodeQuarantined(time=2, node="10.0.0.1", node_id="n", failures=3, error="CUDA error"))
    notifier(NodeLeft(time=3, node="10.0.0.2", node_id="m", drained=True))
    notifier(NodeLeft(time=3, node="10.0.0.3", node_id="o", drained=False))
    spent = Spent(usd=9.5, gpu_hours=1, wall_s=60)
    notifier(SweepEnded(time=4, status="completed", wall_s=60, spent=spent))
    notifier.close()
    titles = [each["title"] for each in got]
    assert (
        titles[::2]
        == titles[1::2]
        == [
            "faces-1: budget.usd is 90% used",
            "faces-1: node 10.0.0.1 is quarantined",
            "faces-1: node 10.0.0.3 is lost",
            "faces-1: completed",
        ]
    )
    assert "9.5 dollars" in got[-1]["message"]


def test_an_address_that_does_not_answer_is_named_once_without_its_secret(caplog: pytest.LogCaptureFixture) -> None:
    said: list[str] = []
    with caplog.at_level(logging.DEBUG):
        notifier = Notifier(Addresses(f"json://agr:{SECRET}@127.0.0.1:9/hook"), "faces-1", warn=said.append)
        for time in (1, 2):
            notifier(SweepEnded(time=time, status="failed", reason="no GPU", wall_s=1))
        notifier.close()
    assert said == [
        "address 1 of AGR_NOTIFY (JSON) did not take the message: it does not answer, or refuses it. "
        "`agr notify --test` tries again."
    ]
    assert SECRET not in caplog.text


def test_what_is_no_address_is_refused_without_being_shown() -> None:
    with pytest.raises(InputError, match="Apprise does not recognise address 2") as refused:
        Addresses(f"json://127.0.0.1/hook {SECRET}")
    assert SECRET not in str(refused.value)


def test_ten_minutes_without_a_running_trial_are_notified_once_and_never_while_paused() -> None:
    messages = Messages("faces-1")
    messages.of(driver(0))
    assert messages.idle(IDLE_S - 1) is None
    told = messages.idle(IDLE_S)
    assert told is not None
    assert "nothing has run for 10 minutes" in told.title
    assert messages.idle(2 * IDLE_S) is None
    messages.of(AttemptStarted(time=2000, trial_id="t", attempt=0, node="n"))
    assert messages.idle(9000) is None
    messages.of(ControlReceived(time=9000, command="pause", key="k"))
    assert messages.idle(90_000) is None


def test_agr_notify_tests_the_addresses(
    hook: tuple[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, got = hook
    for text, code in (("", 2), (address, 0), ("json://127.0.0.1:9/hook", 1)):
        monkeypatch.setenv("AGR_NOTIFY", text)
        result = CliRunner().invoke(app, ["notify", "--test"])
        assert result.exit_code == code, result.output
        assert SECRET not in result.output
    assert [each["title"] for each in got] == ["agr notify --test"]
