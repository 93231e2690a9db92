"""The page of an audit in a real browser: every picture is shown, at the width of a phone too, without a network."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from agr_core.config import SyntheticConfig
from agr_core.data.audit.examine import examine
from agr_core.data.audit.images import open_raw
from agr_core.data.audit.page import audit_page
from agr_core.data.audit.report import Audit
from agr_core.data.drawn.synthetic import draw_faces

pytestmark = [pytest.mark.browser, pytest.mark.slow]

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def test_pictures_lie_side_by_side_and_nothing_is_wider_than_the_page(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for number, face in enumerate(draw_faces(SyntheticConfig(images=12, size=64))):
        for age in (20, 30):
            (tmp_path / "raw" / f"{age}_0_0_{number}{'_a_long_name' * 4}.jpg").write_bytes(face.data)
    with open_raw(tmp_path / "raw") as images:
        page_text = audit_page(Audit(examine(images)), images, "a source with a long name " + "/folder" * 20)
    (tmp_path / "page.html").write_text(page_text, encoding="utf-8")
    executable = next((path for path in map(shutil.which, _CHROMIUM) if path is not None), None)
    assert executable is not None, f"none of {', '.join(_CHROMIUM)} is there; `make test` installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
        page.goto(f"file://{tmp_path / 'page.html'}")
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            boxes = page.evaluate(
                "[...document.querySelectorAll('#conflicts .group:first-child img')]"
                ".map(e => [e.getBoundingClientRect().x, e.getBoundingClientRect().y])"
            )
            assert len(boxes) == 2
            assert boxes[0][0] < boxes[1][0]
            assert boxes[0][1] == boxes[1][1]
        page.evaluate("document.querySelectorAll('img').forEach(e => e.loading = 'eager')")
        page.wait_for_function("[...document.images].every(e => e.complete && e.naturalWidth > 0)")
        browser.close()
    assert problems == []
