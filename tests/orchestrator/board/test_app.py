"""The board: it follows journals, cuts nobody off for an error, and answers no foreign page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from agr_core.errors import InputError
from orchestrator.board.app import build_app, events
from orchestrator.board.follower import POLL_S, REDRAWN_S, Follower
from orchestrator.errors import NotFoundError
from orchestrator.storage import layout

Recorder = Callable[..., Any]


class Clock:
    def __init__(self) -> None:
        self.now = 1_767_400_000.0

    def __call__(self) -> float:
        return self.now


def test_a_follower_takes_what_is_new_and_draws_nothing_twice(record_sweep: Recorder) -> None:
    sweep, clock = record_sweep(), Clock()
    follower = Follower(sweep.storage, [sweep.sweep_id], clock=clock)
    first = follower.drawn()
    assert json.loads(first.text)["leaderboard"]["rows"] == []
    trial = sweep.trial(0, [4.0])
    assert follower.drawn() == first  # looked at a moment ago
    clock.now += 5 * POLL_S
    second = follower.drawn()
    assert second.version == first.version + 1
    assert json.loads(second.text)["head"]["trial_id"] == trial
    sweep.end()
    clock.now += 5 * POLL_S
    third = follower.drawn()
    assert json.loads(third.text)["sweeps"][0]["status"] == "completed"
    clock.now += 2 * REDRAWN_S
    assert follower.drawn() == third


def test_the_clocks_of_a_running_sweep_advance(record_sweep: Recorder) -> None:
    sweep, clock = record_sweep(), Clock()
    follower = Follower(sweep.storage, [sweep.sweep_id], clock=clock)
    spent = json.loads(follower.drawn().text)["sweeps"][0]["spent_s"]
    clock.now += REDRAWN_S
    assert json.loads(follower.drawn().text)["sweeps"][0]["spent_s"] == spent + REDRAWN_S


def test_what_cannot_be_shown_is_refused(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    sweep.trial(0, [4.0])
    with pytest.raises(NotFoundError, match="no sweep"):
        Follower(sweep.storage, ["absent-20260102-030405-abcd"]).drawn()
    other = record_sweep("other-20260102-030405-abcd")
    other.trial(0, [4.0], split_digest="6" * 64)
    with pytest.raises(InputError, match="different"):
        Follower(sweep.storage, [sweep.sweep_id, other.sweep_id]).drawn()


def test_the_event_stream_reports_a_problem_and_continues(record_sweep: Recorder) -> None:
    sweep, clock = record_sweep(), Clock()
    follower = Follower(sweep.storage, [sweep.sweep_id], clock=clock)

    async def three() -> list[str]:
        stream: AsyncIterator[str] = events(follower)
        found = [await anext(stream)]
        broken = layout.segment(sweep.sweep_id, 3)
        sweep.storage.write(broken, b"{}\n")
        clock.now += 5 * POLL_S
        found.append(await anext(stream))
        sweep.storage.delete(broken)
        clock.now += 5 * POLL_S
        found.append(await anext(stream))
        return found

    first, second, third = asyncio.run(three())
    assert first.startswith("event: figures\ndata: {")
    assert second.startswith("event: problem\ndata: ")
    assert "journal" in second
    assert third.startswith("event: figures\n")
    assert first.count("\n") == 3


def test_foreign_pages_get_nothing(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    follower = Follower(sweep.storage, [sweep.sweep_id])
    client = TestClient(build_app(follower, title=sweep.sweep_id), base_url="http://127.0.0.1:8100")
    assert client.get("/").status_code == 200
    assert client.get("/figures").json()["title"] == sweep.sweep_id
    assert client.get("/figures", headers={"Origin": "http://127.0.0.1:8100"}).status_code == 200
    assert client.get("/figures", headers={"Origin": "https://elsewhere.example"}).status_code == 403
    assert client.get("/figures", headers={"Origin": "http://127.0.0.1:9999"}).status_code == 403
    assert client.get("/figures", headers={"Origin": "null"}).status_code == 403
    assert client.get("/figures", headers={"Host": "elsewhere.example"}).status_code == 400
    assert client.get("/openapi.json").status_code == 404
