"""The saved view in a real browser: the leaderboard's first row is MLflow's first row."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from agr_core.objective import Objective
from orchestrator.journal.events import TrialEnded
from orchestrator.journal.segments import read_state
from orchestrator.results.leaderboard import rows
from orchestrator.settings import Settings
from orchestrator.tracking import open_tracker
from orchestrator.tracking.delivered.trials import Place
from orchestrator.tracking.delivery import Syncer
from orchestrator.tracking.ui import serve

pytestmark = [pytest.mark.browser, pytest.mark.services, pytest.mark.slow]

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_QUIET = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
_TIMEOUT_MS = 90_000  # MLflow's pages are megabytes of script, and this may be a busy machine


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page wide enough for every column: MLflow does not draw what is out of sight."""
    executable = next((path for path in map(shutil.which, _CHROMIUM) if path is not None), None)
    assert executable is not None, f"none of {', '.join(_CHROMIUM)} is there; `make test` installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=_QUIET)
        page = browser.new_page(viewport={"width": 3200, "height": 1000})
        page.set_default_timeout(_TIMEOUT_MS)
        expect.set_options(timeout=_TIMEOUT_MS)
        yield page
        browser.close()


@pytest.fixture
def delivered(record_sweep: Callable[..., Any], mlflow_server: Any) -> tuple[Any, Place]:
    """A sweep whose best trial is neither the first nor the last, and whose best value is of a pruned one."""
    sweep = record_sweep(f"faces-20260102-030405-{secrets.token_hex(2)}")
    sweep.trial(0, [19.0, 9.0], params={"model.name": "resnet10t", "optimizer.name": "sgd", "optimizer.lr": 0.01})
    onehot = {"age.encoding": "onehot", "age.bins": "utk7"}
    sweep.trial(1, [10.0, 5.5], params={"model.name": "basic_cnn", "optimizer.name": "nadam", **onehot}, files=True)
    sweep.trial(2, [17.0, 7.0], params={"model.name": "resnet10t", "optimizer.name": "nadam", "optimizer.lr": 0.001})
    sweep.trial(3, [1.0], "pruned", params={"model.name": "basic_cnn", "optimizer.name": "sgd"})
    sweep.trial(4, [], "failed", params={"model.name": "basic_cnn", "optimizer.name": "sgd"})
    sweep.end()
    return sweep, deliver(sweep, mlflow_server)


def deliver(sweep: Any, mlflow_server: Any) -> Place:
    syncer = Syncer(sweep.storage, open_tracker(mlflow_server.uri), sweep.sweep_id)
    syncer.run_once()
    assert syncer.place is not None
    return syncer.place


def cell(page: Page, row: int, column: str) -> str:
    text = page.locator(f".ag-row[row-index='{row}'] [col-id='{column}']").inner_text()
    return text.strip().split("\n")[-1]  # a name comes after the colour of its curves


def titles(page: Page) -> list[str]:
    """Titles of the columns from left to right, which is not their order in the document."""
    headers = [header for header in page.locator(".ag-header-cell").all() if header.inner_text().strip()]
    headers.sort(key=lambda header: (header.bounding_box() or {"x": -1.0})["x"])
    return [header.inner_text().strip() for header in headers]


def test_the_view_shows_the_leaderboard_in_its_order(page: Page, delivered: tuple[Any, Place], tmp_path: Path) -> None:
    sweep, place = delivered
    ranked = [row for row in rows([read_state(sweep.storage, sweep.sweep_id)]) if row.rank is not None]

    page.goto(place.link)

    expect(page.locator(".ag-center-cols-container .ag-row")).to_have_count(5)
    page.screenshot(path=tmp_path / "view.png")
    shown = [cell(page, row, "attributes.`Run Name`") for row in range(len(ranked))]
    assert shown == ["001 basic_cnn nadam onehot/utk7", "002 resnet10t nadam", "000 resnet10t sgd"]
    assert [int(name.split()[0]) for name in shown] == [row.number for row in ranked]
    assert [cell(page, row, "metrics.`rank`") for row in range(3)] == ["1", "2", "3"]
    assert {cell(page, row, "tags.`agr.outcome`") for row in (3, 4)} == {"pruned", "failed"}
    assert [float(cell(page, row, "metrics.`best/age_mae`")) for row in range(3)] == [row.value for row in ranked]
    assert titles(page) == [
        "Run Name",
        "Created",
        "rank",
        "model.name",
        "optimizer.name",
        "optimizer.lr",
        "age.encoding",
        "age.bins",
        "best/age_mae",
        "best/gender_acc",
        "best/race_acc",
        "best/age_cs5",
        "agr.epochs",
        "agr.outcome",
        "Duration",
    ]
    assert cell(page, 0, "params.`age.bins`") == "utk7"
    expect(page.get_by_text(f"Leaderboard {sweep.sweep_id[:12]}").first).to_be_visible()


def test_a_confirmed_sweep_is_in_the_order_of_its_ranks(
    page: Page, record_sweep: Callable[..., Any], mlflow_server: Any, tmp_path: Path
) -> None:
    """Neither what the search saw nor the mean of fresh seeds gives it: the one flatters, the other not all have."""
    document = {"search": {"algorithm": "grid"}, "confirm": {"top": 2, "seeds": 2}}
    sweep = record_sweep(f"confirmed-20260102-030405-{secrets.token_hex(2)}", document=document)
    names = ("nadam", "sgd", "adam")
    searched = [sweep.trial(n, [v], params={"optimizer.name": names[n]}) for n, v in enumerate((7.0, 7.2, 7.4))]
    for number, (which, seed, value) in enumerate([(0, 1, 8.3), (1, 1, 7.9), (0, 2, 8.1), (1, 2, 7.8)], start=3):
        fresh = {"configuration": which, "repeat": seed - 1, "confirms": searched[which]}
        sweep.trial(number, [value], params={"optimizer.name": names[which], "seed": seed}, **fresh)
    sweep.end()

    page.goto(deliver(sweep, mlflow_server).link)

    expect(page.locator(".ag-center-cols-container .ag-row")).to_have_count(7)
    page.screenshot(path=tmp_path / "confirmed.png")
    ranks = [cell(page, row, "metrics.`rank`") for row in range(7)]
    assert ranks == ["1", "1", "1", "2", "2", "2", "3"]
    shown = [cell(page, row, "attributes.`Run Name`").split()[1] for row in range(7)]
    assert shown == ["sgd"] * 3 + ["nadam"] * 3 + ["adam"]
    means = [cell(page, row, "metrics.`mean/age_mae`") for row in range(7)]
    assert [float(mean) for mean in means[:6]] == pytest.approx([7.85] * 3 + [8.2] * 3)
    assert means[6] in ("", "-")
    assert titles(page)[2:7] == ["rank", "optimizer.name", "seed", "mean/age_mae", "best/age_mae"]


def test_of_several_objectives_the_front_comes_first(
    page: Page, record_sweep: Callable[..., Any], mlflow_server: Any, tmp_path: Path
) -> None:
    gender = Objective(metric="val/gender_acc", direction="maximize")
    sweep = record_sweep(f"several-20260102-030405-{secrets.token_hex(2)}", further=(gender,))
    # The third is beaten by the second in both; the first has the worst error and the best score.
    for number, (error, score) in enumerate([(9.0, 0.95), (6.0, 0.80), (6.5, 0.75), (5.0, 0.70)]):
        trial = sweep.create(number, params={"optimizer.lr": 0.01 + number / 100})
        sweep.start(trial)
        sweep.report(trial, 1, error, **{"val/gender_acc": score})
        figures = {"epochs": 1, "best_epoch": 1, "attempt": 0, "value": error, "values": (error, score)}
        sweep.record(TrialEnded(time=sweep.tick(), trial_id=trial, outcome="completed", **figures))
    sweep.end()

    page.goto(deliver(sweep, mlflow_server).link)

    expect(page.locator(".ag-center-cols-container .ag-row")).to_have_count(4)
    page.screenshot(path=tmp_path / "front.png")
    columns = ("tags.`agr.front`", "metrics.`rank`", "metrics.`best/age_mae`", "metrics.`best/gender_acc`")
    shown = [[float(cell(page, row, column)) for column in columns] for row in range(4)]
    assert shown == [[1, 1, 5.0, 0.70], [1, 2, 6.0, 0.80], [1, 3, 9.0, 0.95], [2, 4, 6.5, 0.75]]
    assert titles(page)[2:6] == ["rank", "agr.front", "optimizer.lr", "best/age_mae"]


def test_the_charts_open_on_the_validation_curves(page: Page, delivered: tuple[Any, Place], tmp_path: Path) -> None:
    _, place = delivered

    page.goto(f"{place.link}&compareRunsMode=CHART")  # what the button "Chart view" does

    expect(page.locator(".js-plotly-plot .lines path.js-line").first).to_be_visible()
    page.screenshot(path=tmp_path / "charts.png")
    headers = page.locator("[data-testid='experiment-view-compare-runs-section-header']")
    assert headers.first.inner_text().split("\n")[0].strip() == "val"
    first_chart = page.locator("[data-testid='experiment-view-compare-runs-card']").first.inner_text()
    assert first_chart.startswith("val/age_mae")


def test_agr_ui_opens_in_model_training_with_the_assistant_closed(
    page: Page, record_sweep: Callable[..., Any], embedded_mlflow: None, tmp_path: Path
) -> None:
    """MLflow's own page opens for language models, with its Assistant over the table, in a browser new to it."""
    settings = Settings.from_environment()
    sweep = record_sweep()
    sweep.trial(0, [9.0, 8.0])
    sweep.end()
    tracker = open_tracker(settings.tracking_uri, settings.mlflow_artifacts)
    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()
    experiment_id = tracker.find_experiment("faces")
    with serve(settings.tracking_uri, port=None, log=tmp_path / "mlflow.log") as address:
        page.goto(address)
        expect(page.locator("button[data-assistant-ui]")).to_be_visible()  # the closed Assistant's
        page.screenshot(path=tmp_path / "home.png")
        expect(page.get_by_role("link", name="Model registry")).to_be_visible()  # only there in the side bar
        expect(page.get_by_placeholder("Ask a question")).to_have_count(0)
        page.goto(f"{address}/#/experiments/{experiment_id}")  # no link of ours
        page.reload()
        expect(page.get_by_role("link", name=sweep.sweep_id)).to_be_visible()  # the table of runs, not of traces
        page.screenshot(path=tmp_path / "experiment.png")


def test_a_confusion_matrix_is_a_picture(page: Page, delivered: tuple[Any, Place], mlflow_server: Any) -> None:
    sweep, place = delivered
    tracker = open_tracker(mlflow_server.uri)
    [best] = tracker.runs(place.experiment_id, {"agr.sweep_id": sweep.sweep_id, "agr.rank": "1"})

    page.goto(
        f"{mlflow_server.uri}/#/experiments/{place.experiment_id}/runs/{best.run_id}"
        "/artifacts/plots/val_gender_confusion.png"
    )

    picture = page.locator("img[src^='blob:'], img[src*='confusion']").first
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 200


def test_the_trials_lie_beneath_their_sweep(page: Page, delivered: tuple[Any, Place], mlflow_server: Any) -> None:
    _, place = delivered

    page.goto(f"{mlflow_server.uri}/#/experiments/{place.experiment_id}/runs/{place.run_id}")

    for name in ("001 basic_cnn nadam onehot/utk7", "003 basic_cnn sgd", "004 basic_cnn sgd"):
        expect(page.get_by_text(name).first).to_be_visible()
    expect(page.get_by_text("Which small model reads faces best?").first).to_be_visible()
