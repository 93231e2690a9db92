"""MLflow's first page as served here; what MLflow's script makes of it is for the browser test to see."""

from __future__ import annotations

from pathlib import Path

from flask import Flask

from orchestrator.tracking.opening_page import STORED, opening_page, serve_opening_page

PAGE = "<!doctype html><html><head><title>MLflow</title><script src='main.js'></script></head><body></body></html>"


def test_the_choices_are_made_before_mlflows_script_and_only_where_the_browser_has_none() -> None:
    page = opening_page(PAGE)

    assert page.index("localStorage") < page.index("main.js")
    assert "localStorage.getItem(name) === null" in page
    for name in STORED:
        assert f'"{name}"' in page


def test_only_the_first_page_is_changed_and_no_browser_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(PAGE)
    app = Flask("mlflow.server", static_folder=str(tmp_path))
    app.add_url_rule("/", "serve", lambda: PAGE)
    app.add_url_rule("/version", "version", lambda: "3.17")

    serve_opening_page(app)

    client = app.test_client()
    first = client.get("/")
    assert first.text == opening_page(PAGE)
    assert (first.mimetype, first.headers["Cache-Control"]) == ("text/html", "no-cache")
    assert client.get("/version").text == "3.17"


def test_a_page_that_is_not_as_known_is_served_as_it_is(tmp_path: Path) -> None:
    app = Flask("mlflow.server", static_folder=str(tmp_path))
    app.add_url_rule("/", "serve", lambda: "no page was built")

    serve_opening_page(app)

    assert app.test_client().get("/").text == "no page was built"
    assert opening_page("<html>") == "<html>"
