"""The prediction page in a real browser: a picture in, boxes and a table out."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from agr_core.predict.model import Face, FileFaces
from orchestrator.serving.app import HOST, build_app, listen, server_of

pytestmark = [pytest.mark.browser, pytest.mark.slow]

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_MODEL = {
    "trial_id": "0123abcd",
    "sweep_id": "faces-20260102-030405-abcd",
    "epoch": 3,
    "model": "resnet18",
    "image_size": 64,
    "tasks": ["age", "gender"],
}


def face(box: tuple[int, int, int, int], age: float, gender: str) -> Face:
    shares = {"gender": {"male": 0.2, "female": 0.8}}
    return Face(box=box, age=age, gender=gender, race=None, probabilities=shares)


def predict(name: str, data: bytes, crop: bool) -> FileFaces:
    """Two faces where faces are looked for, none in pictures whose name says so."""
    if data == b"text":
        return FileFaces(name, error="not an image of a known format")
    if not crop:
        return FileFaces(name, (face((0, 0, 400, 200), 50.0, "male"),))
    found = (face((40, 50, 140, 150), 31.4, "female"), face((240, 50, 340, 150), 62.0, "male"))
    return FileFaces(name, () if "sky" in name else found)


@pytest.fixture
def url() -> Iterator[str]:
    listener = listen(0)
    server = server_of(build_app(predict, {"models": [_MODEL]}))
    thread = Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://{HOST}:{listener.getsockname()[1]}/"
    server.should_exit = True
    thread.join(timeout=20)


@pytest.fixture
def page() -> Iterator[Page]:
    executable = next((path for path in map(shutil.which, _CHROMIUM) if path is not None), None)
    assert executable is not None, f"none of {', '.join(_CHROMIUM)} is there; `make test` installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1000, "height": 900})
        page.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        yield page
        browser.close()


def picture(path: Path) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (400, 200), (150, 180, 200)).save(buffer, "PNG")
    path.write_bytes(buffer.getvalue())
    return str(path)


def test_a_picture_is_shown_with_its_faces(page: Page, url: str, tmp_path: Path) -> None:
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("requestfailed", lambda request: troubles.append(request.url))
    page.goto(url)
    expect(page.locator("#model")).to_contain_text("Trial 0123abcd")

    page.set_input_files("#file", picture(tmp_path / "two.png"))

    expect(page.locator(".box")).to_have_count(2)
    rows = page.locator("#faces tbody tr")
    expect(rows.nth(0)).to_have_text("131.4female (80 %)")
    expect(rows.nth(1)).to_have_text("262.0male (20 %)")
    image, box = page.locator("#image").bounding_box(), page.locator(".box").nth(1).bounding_box()
    assert image is not None
    assert box is not None
    scale = image["width"] / 400
    assert box["x"] - image["x"] == pytest.approx(240 * scale, abs=2)
    assert box["y"] - image["y"] == pytest.approx(50 * scale, abs=2)
    assert (box["width"], box["height"]) == pytest.approx((100 * scale, 100 * scale), abs=2)
    page.screenshot(path=tmp_path / "page.png")

    page.uncheck("#crop")
    expect(page.locator(".box")).to_have_count(1)
    assert troubles == []


def test_pictures_without_faces_and_files_that_are_not_pictures_are_named(page: Page, url: str, tmp_path: Path) -> None:
    page.goto(url)
    page.set_input_files("#file", picture(tmp_path / "sky.png"))
    expect(page.get_by_role("alert")).to_contain_text("No face was found")
    (tmp_path / "a.jpg").write_bytes(b"text")
    page.set_input_files("#file", str(tmp_path / "a.jpg"))
    expect(page.get_by_role("alert")).to_have_text("This picture cannot be used: not an image of a known format.")
    expect(page.locator("#image")).to_be_hidden()
