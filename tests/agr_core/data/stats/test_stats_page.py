"""The page of charts: what it shows, and that it needs nothing but itself."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from agr_core.data.packed.pack import Packed, pack_images
from agr_core.data.readers import Skipped
from agr_core.data.stats.stats import bin_ages
from agr_core.data.stats.stats_page import stats_page
from agr_core.errors import UnknownComponentError
from agr_core.labels.attributes import GENDERS, Vocabulary

from ..conftest import range_images


class Titles(HTMLParser):
    """Section titles and table cells of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.cells: dict[str, list[str]] = {"h1": [], "h2": [], "td": [], "p": []}
        self._inside: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._inside = tag if tag in self.cells else None
        if self._inside:
            self.cells[tag].append("")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.cells[self._inside][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._inside = None


def charts(html: str) -> list[list[dict[str, Any]]]:
    """The traces of every chart."""
    found = re.findall(r'Plotly\.newPlot\(\s*"[^"]+",\s*(\[.*?\]),\s*\{"template"', html, flags=re.DOTALL)
    return [json.loads(traces) for traces in found]


def test_the_page_shows_every_distribution_with_its_counts(faces: Packed) -> None:
    html = stats_page(faces, "drawn <faces>", "utk4")
    page = Titles(html)
    assert page.cells["h1"] == ["drawn <faces>"]
    assert page.cells["h2"] == [
        "Ages", "Age bins (utk4)", "Ages in each bin", "Age by gender", "Age by race", "Gender", "Race",
        "Race and gender", "Races in each age bin, share", "Image sizes",
    ]  # fmt: skip
    by_year, by_bin, by_gender, _, genders, races, joint, shares = charts(html)
    table = faces.table
    assert [trace["name"] for trace in by_year] == ["male", "female"]
    for trace in by_year:
        ages = table["age"][table["gender"] == trace["name"]]
        assert dict(zip(trace["x"], trace["y"], strict=True)) == {
            year: (ages == int(year)).sum() for year in trace["x"]
        }
    assert sum(sum(trace["y"]) for trace in by_bin) == 203
    assert genders[0]["y"] == [(table["gender"] == name).sum() for name in GENDERS]
    assert races[0]["y"] == [(table["race"] == name).sum() for name in races[0]["x"]]
    female = next(trace for trace in joint if trace["name"] == "female")
    both = table[table["gender"] == "female"]["race"]
    assert female["y"] == [(both == race).sum() for race in female["x"]]
    for place in range(4):
        assert sum(trace["y"][place] for trace in shares) == pytest.approx(1)
    male = table["age"][table["gender"] == "male"]
    assert by_gender[0]["median"] == [male.median()]
    assert [by_gender[0]["q1"], by_gender[0]["q3"]] == [[male.quantile(0.25)], [male.quantile(0.75)]]
    means = [row["mean"] for row in bin_ages(table, "utk4").values()]
    assert [f"{mean:.2f}" for mean in means] == page.cells["td"][3:20:5]
    assert page.cells["td"][20:23] == ["32 x 32", "203", "100.0%"]


def test_the_page_needs_nothing_but_itself(faces: Packed) -> None:
    html = stats_page(faces, "faces")
    outside = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert not re.search(r"(src|href)=", outside)
    assert "<link" not in outside
    assert not re.search(r"<script[^>]*\bsrc=", html)


def test_ranges_unknown_labels_and_skipped_files_are_shown_as_what_they_are(tmp_path: Path) -> None:
    images = range_images(12, [(0, 2), (25, 32), (4, 6)])
    vocabulary = Vocabulary(genders=GENDERS, races=())
    skipped = [Skipped("<b>.jpg", "no face"), Skipped("c.jpg", "no face")]
    pack_images([*images, *skipped], tmp_path / "p", source="s", kind="test", vocabulary=vocabulary)
    html = stats_page(Packed.open(tmp_path / "p"), "ranges", "adience8")
    page = Titles(html)
    assert any("ages are ranges" in line for line in page.cells["p"])
    assert "of the middle of ranges" in page.cells["p"]
    assert charts(html)[0][0]["x"] == ["0-2", "4-6", "25-32"]
    assert not {"Race", "Age by race"} & set(page.cells["h2"])
    assert page.cells["td"][-6:] == ["no face", "2", "<b>.jpg", "no face", "c.jpg", "no face"]


def test_data_sets_are_compared_by_their_shares(faces: Packed, tmp_path: Path) -> None:
    vocabulary = Vocabulary(genders=GENDERS, races=("White", "Latino_Hispanic"))
    images = [replace(image, race="Latino_Hispanic") for image in range_images(8, [(0, 2)])]
    pack_images(images, tmp_path / "p", source="s", kind="test", vocabulary=vocabulary)
    html = stats_page(faces, "drawn", against={"other": Packed.open(tmp_path / "p")})
    assert "Races of each data set, share" in Titles(html).cells["h2"]
    races, genders, ages = charts(html)[-3:]
    assert [trace["name"] for trace in races] == ["White", "Black", "Asian", "Indian", "Others", "Latino_Hispanic"]
    assert all(trace["x"] == ["drawn", "other"] for trace in (*races, *genders, *ages))
    assert races[0]["y"] == [pytest.approx((faces.table["race"] == "White").mean()), 0]
    assert races[-1]["y"] == [0, 1]
    assert ages[0]["y"][1] == 1


def test_an_unknown_scheme_is_refused(faces: Packed) -> None:
    with pytest.raises(UnknownComponentError, match="Did you mean 'utk7'"):
        stats_page(faces, "faces", "utk77")
