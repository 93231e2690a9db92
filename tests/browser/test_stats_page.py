"""The page of a data set's charts in a real browser: every chart is drawn, at any width, without a network."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from agr_core.config import SyntheticConfig
from agr_core.data.packed.pack import Packed, pack
from agr_core.data.stats.stats_page import stats_page

pytestmark = [pytest.mark.browser, pytest.mark.slow]

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def test_every_chart_is_drawn_and_nothing_is_wider_than_the_page(tmp_path: Path) -> None:
    pack("synthetic", tmp_path / "faces", synthetic=SyntheticConfig(images=100, size=16))
    (tmp_path / "page.html").write_text(stats_page(Packed.open(tmp_path / "faces"), "faces"), encoding="utf-8")
    executable = next((path for path in map(shutil.which, _CHROMIUM) if path is not None), None)
    assert executable is not None, f"none of {', '.join(_CHROMIUM)} is there; `make test` installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
        page.goto(f"file://{tmp_path / 'page.html'}")
        page.wait_for_function("document.querySelectorAll('.main-svg .barlayer .point').length > 100")
        drawn = "[...document.querySelectorAll('section .js-plotly-plot')].map(e => e.querySelectorAll('path').length)"
        assert len(page.evaluate(drawn)) == 8
        assert min(page.evaluate(drawn)) > 2
        for width in (1200, 400):
            page.set_viewport_size({"width": width, "height": 800})
            page.wait_for_function("width => document.documentElement.scrollWidth <= width", arg=width)
        browser.close()
    assert problems == []
