from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from agr_core.data.audit.examine import examine
from agr_core.data.audit.images import open_raw
from agr_core.data.audit.page import audit_page
from agr_core.data.audit.report import Audit

from .conftest import jpeg, named, pixels_of


def test_the_page_shows_the_pictures_of_each_group_and_loads_nothing(
    drawn: list[bytes], folder: Callable[..., Path]
) -> None:
    files = named(drawn[:12])
    first = next(iter(files))
    files["44_1_0_copy.jpg"] = files[first]
    files["20_0_0_near.jpg"] = jpeg(pixels_of(drawn[3])[:, ::-1].copy(), 60)
    files["20_0_0_<b>.jpg"] = b"no image"
    with open_raw(folder(files)) as images:
        seen = examine(images)
        parts = np.where(seen.table["path"] == first, "val", "train").astype(object)
        page = audit_page(Audit(seen, parts), images, "<faces>")
    assert "Audit of &lt;faces&gt;" in page
    assert "20_0_0_&lt;b&gt;.jpg" in page
    sides = page[page.index('id="sides"') : page.index('id="conflicts"')]
    assert len(re.findall(r'<img src="data:image/jpeg;base64,[A-Za-z0-9+/=]{200,}"', sides)) == 2
    assert "20, male, White · val" in sides
    assert "44, female, White · train" in sides
    assert "mirrored, difference 0." in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)


def test_a_page_without_findings_says_that_it_passed(drawn: list[bytes], folder: Callable[..., Path]) -> None:
    with open_raw(folder(named(drawn[:24]))) as images:
        page = audit_page(Audit(examine(images)), images, "faces")
    assert "Passed: nothing leaks" in page
    assert "<img" not in page
