"""The page about a sweep in a real browser: as a file, and live."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from agr_core.objective import Objective
from orchestrator.board.app import HOST, build_app, server_of
from orchestrator.board.follower import Follower
from orchestrator.journal.events import AttemptFailed, BaselineMeasured, TrialEnded
from orchestrator.listening import listen
from orchestrator.report.evidence import Evidence
from orchestrator.report.page import figures_of, page_html

pytestmark = [pytest.mark.browser, pytest.mark.slow]

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_TIMEOUT_MS = 60_000


@pytest.fixture
def page() -> Iterator[Page]:
    executable = next((path for path in map(shutil.which, _CHROMIUM) if path is not None), None)
    assert executable is not None, f"none of {', '.join(_CHROMIUM)} is there; `make test` installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(_TIMEOUT_MS)
        expect.set_options(timeout=_TIMEOUT_MS)
        yield page
        browser.close()


@pytest.fixture
def troubles(page: Page) -> list[str]:
    """Errors of the page, words on its console, and requests to other hosts."""
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("console", lambda message: found.append(message.text))
    page.on(
        "request",
        lambda request: None if request.url.startswith(("file:", f"http://{HOST}:")) else found.append(request.url),
    )
    return found


def recorded(record_sweep: Callable[..., Any]) -> Any:
    """Twelve trials of two branches, the best of which is the fourth; one attempt fails."""
    document = {"search": {"algorithm": "tpe", "trials": 14}, "scheduler": {"name": "asha", "grace_epochs": 1}}
    sweep = record_sweep(document=document, description="<img src=x onerror=alert(1)> which model?")
    sweep.record(BaselineMeasured(time=sweep.tick(), split_digest="5" * 64, metrics={"val/age_mae": 15.0}))
    for number in range(12):
        params = {"optimizer.name": ("adam", "sgd")[number % 2], "optimizer.lr": 0.001 * (number + 1)}
        if number % 2:
            params["optimizer.momentum"] = 0.9 - number / 100
        value = 5.0 + abs(number - 3)
        if number % 2:
            sweep.trial(number, [value + 2, value], params=params, files=number < 6)
        else:
            sweep.trial(number, [value + 2], "pruned", params=params)
    broken = sweep.create(12, {"optimizer.name": "adam", "optimizer.lr": 0.5})
    sweep.start(broken)
    failed = {"trial_id": broken, "attempt": 0, "error": "the worker's process ended", "cause": "worker_died"}
    sweep.record(AttemptFailed(time=sweep.tick(), charged=True, **failed))
    sweep.end_trial(broken, "failed", [], error="no attempt is left")
    return sweep


def section(page: Page, title: str) -> Any:
    return page.locator("section", has=page.get_by_role("heading", name=title, exact=True))


def test_the_report_is_whole_without_a_network(
    page: Page, troubles: list[str], record_sweep: Callable[..., Any], tmp_path: Path
) -> None:
    sweep = recorded(record_sweep)
    sweep.end()
    evidence = Evidence(sweep.storage)
    figures = figures_of(evidence, evidence.states([sweep.sweep_id]))
    (tmp_path / "report.html").write_text(page_html(figures, title="report"), encoding="utf-8")

    page.goto(f"file://{tmp_path / 'report.html'}")

    best = figures["leaderboard"]["rows"][0]
    expect(page.locator("#best .value")).to_have_text("5")
    expect(page.locator("#best")).to_contain_text("baseline 15")
    rows = page.locator("#leaderboard tbody tr")
    expect(rows).to_have_count(13)
    expect(rows.nth(0).locator("code")).to_have_text(best["trial"])
    expect(rows.nth(0).locator("button")).to_have_attribute("data-copy", best["rerun"])
    expect(section(page, "Learning curves").locator("polyline")).to_have_count(6)
    expect(section(page, "Learning curves").locator("circle")).to_have_count(6)
    expect(section(page, "Parallel coordinates").locator("polyline")).to_have_count(12)
    expect(section(page, "Importance of the settings").locator("svg").first).to_be_visible()
    expect(section(page, "Confusion: winner against runner-up").locator("table")).to_have_count(2)
    expect(section(page, "Workers").locator("rect")).to_have_count(13)
    expect(section(page, "Errors").locator("tbody tr")).to_have_count(2)
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.screenshot(path=tmp_path / f"report_{width}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert troubles == []


def test_the_button_copies_the_command(page: Page, record_sweep: Callable[..., Any], tmp_path: Path) -> None:
    sweep = recorded(record_sweep)
    evidence = Evidence(sweep.storage)
    figures = figures_of(evidence, evidence.states([sweep.sweep_id]))
    (tmp_path / "report.html").write_text(page_html(figures, title="report"), encoding="utf-8")
    page.goto(f"file://{tmp_path / 'report.html'}")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button = page.locator("#leaderboard tbody tr button").first
    button.click()
    expect(button).to_have_text("copied")
    assert page.evaluate("navigator.clipboard.readText()") == figures["leaderboard"]["rows"][0]["rerun"]


def test_a_sweep_without_trials_says_so(
    page: Page, troubles: list[str], record_sweep: Callable[..., Any], tmp_path: Path
) -> None:
    sweep = record_sweep()
    evidence = Evidence(sweep.storage)
    figures = figures_of(evidence, evidence.states([sweep.sweep_id]))
    (tmp_path / "report.html").write_text(page_html(figures, title="report"), encoding="utf-8")
    page.goto(f"file://{tmp_path / 'report.html'}")
    expect(page.get_by_text("No trial was created yet.")).to_be_visible()
    assert troubles == []


def test_the_board_follows_a_running_sweep(
    page: Page, troubles: list[str], record_sweep: Callable[..., Any], tmp_path: Path
) -> None:
    sweep = recorded(record_sweep)
    listener = listen(HOST, 0)
    server = server_of(build_app(Follower(sweep.storage, [sweep.sweep_id]), title=sweep.sweep_id))
    thread = Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        page.goto(f"http://{HOST}:{listener.getsockname()[1]}/")
        expect(page.locator("#leaderboard tbody tr")).to_have_count(13)
        expect(page.locator("#best .value")).to_have_text("5")

        better = sweep.create(13, {"optimizer.name": "adam", "optimizer.lr": 0.02})
        sweep.start(better)
        sweep.report(better, 1, 4.0)
        row = page.locator("#leaderboard tbody tr", has=page.get_by_text(better))
        expect(row).to_contain_text("running")
        sweep.end_trial(better, "completed", [4.0])
        expect(page.locator("#best .value")).to_have_text("4")
        expect(page.locator("#leaderboard tbody tr").nth(0).locator("code")).to_have_text(better)
        sweep.end()
        expect(page.locator(".status")).to_have_text("completed")
        page.screenshot(path=tmp_path / "board.png", full_page=True)
        assert troubles == []
    finally:
        server.should_exit = True
        thread.join(timeout=20)
    assert not thread.is_alive()
    expect(page.locator("#connection")).to_contain_text("does not answer")


def test_several_objectives_have_a_pareto_front(
    page: Page, troubles: list[str], record_sweep: Callable[..., Any], tmp_path: Path
) -> None:
    sweep = record_sweep(further=(Objective(metric="val/gender_acc", direction="maximize"),))
    for number, (error, score) in enumerate([(9.0, 0.95), (6.0, 0.80), (6.5, 0.75), (5.0, 0.70)]):
        trial = sweep.create(number, params={"optimizer.lr": 0.01 + number / 100})
        sweep.start(trial)
        sweep.report(trial, 1, error, **{"val/gender_acc": score})
        figures: dict[str, Any] = {"epochs": 1, "best_epoch": 1, "attempt": 0}
        figures |= {"value": error, "values": (error, score)}
        sweep.record(TrialEnded(time=sweep.tick(), trial_id=trial, outcome="completed", **figures))
    sweep.end()
    evidence = Evidence(sweep.storage)
    (tmp_path / "report.html").write_text(page_html(figures_of(evidence, evidence.states([sweep.sweep_id])), title="x"))

    page.goto(f"file://{tmp_path}/report.html")

    front = page.locator("section", has_text="Pareto front").first
    expect(front.locator("circle[fill='var(--accent)']")).to_have_count(3)
    expect(front.locator("circle[fill='var(--grey)']")).to_have_count(1)
    expect(front.locator("svg")).to_contain_text("val/gender_acc (maximize)")
    front.screenshot(path=tmp_path / "front.png")
    page.set_viewport_size({"width": 390, "height": 844})
    page.reload()
    assert page.evaluate("document.documentElement.scrollWidth <= 390")
    front.screenshot(path=tmp_path / "narrow.png")
    assert troubles == []
