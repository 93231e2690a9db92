"""``agr table``: one table, five forms."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from click.testing import Result

from orchestrator.cli.render.table_formats import figure
from orchestrator.stats.intervals import Estimate

Recorder = Callable[..., Any]
Agr = Callable[..., Result]


@pytest.fixture
def ids(record_sweep: Recorder) -> dict[str, list[str]]:
    """Trials by variant: b_s is better than base by a year, same ties with it."""
    sweep = record_sweep(document={"variants": {"base": {}, "b_s": {"x": 1}, "same": {"y": 1}}, "repeat": {"seeds": 3}})
    values = {"base": [7.0, 8.0, 9.0], "b_s": [6.0, 7.1, 8.0], "same": [7.2, 7.9, 8.9]}
    return {
        variant: [
            sweep.trial(
                3 * row + repeat,
                [value],
                params={"seed": repeat},
                configuration=row,
                repeat=repeat,
                variant=variant,
            )
            for repeat, value in enumerate(of_variant)
        ]
        for row, (variant, of_variant) in enumerate(values.items())
    }


def test_the_text_has_mean_interval_difference_and_the_trials_of_each_row(agr: Agr, ids: dict[str, list[str]]) -> None:
    text = agr("table", "faces").stdout

    lines = text.splitlines()
    assert lines[0].split() == ["variant", "against", "age_mae", "gender_acc"]
    assert re.match(r"base\s+8\.0 ± 2\.5\s", lines[2])
    assert re.match(r"b_s\s+base\s+7\.0 ± 2\.5\s", lines[3])
    assert re.match(r"\s+-0\.97 ± 0\.14 better", lines[4])
    assert re.match(r"\s+0\.00 ± 0\.43 tie", lines[6].replace("+0.00", " 0.00").replace("-0.00", " 0.00"))
    assert max(map(len, lines[:7])) <= 100
    assert lines[7] == "each row: 3 seeds, 3 epochs, 3 seconds"  # the same for all, so that no column is needed
    for variant, trials in ids.items():
        assert f"{variant:<4}  {' '.join(trials)}" in text


def test_a_difference_that_is_the_same_at_every_seed_is_shown_and_not_judged(agr: Agr, record_sweep: Recorder) -> None:
    sweep = record_sweep(document={"variants": {"base": {}, "b_s": {"x": 1}}, "repeat": {"seeds": 2}})
    for row, (variant, values) in enumerate({"base": [7.0, 8.0], "b_s": [6.5, 7.5]}.items()):
        for repeat, value in enumerate(values):
            place = {"configuration": row, "repeat": repeat, "variant": variant}
            sweep.trial(2 * row + repeat, [value], params={"seed": repeat}, **place)

    shown = agr("table", "faces", "--cols", "age_mae")
    latex = agr("table", "faces", "--cols", "age_mae", "--latex").stdout
    [difference] = [
        row["cells"]["best/age_mae"]["difference"]
        for row in json.loads(agr("table", "faces", "--json").stdout)["rows"]
        if row["from"]
    ]

    assert re.search(r"^\s+-0\.5000 at every seed\s*$", shown.stdout, flags=re.MULTILINE)
    assert "the same at every seed has no interval" in " ".join(shown.stdout.split())
    assert r"$-0.5000$ (at every seed)" in latex
    assert difference == {"mean": -0.5, "low": None, "high": None, "count": 2, "verdict": None}


def test_each_field_that_tells_rows_apart_has_a_column(agr: Agr, record_sweep: Recorder) -> None:
    sweep = record_sweep(document={"search": {"algorithm": "grid"}})
    sweep.trial(0, [7.0], params={"model.name": "basic_cnn", "model.conv_layers": 2})
    sweep.trial(1, [6.0], params={"model.name": "resnet10t"})
    command = ("table", "faces", "--rows", "model.name,model.conv_layers", "--cols", "age_mae")

    head, _, first, second = agr(*command).stdout.splitlines()[:4]
    latex = agr(*command, "--latex").stdout
    page = agr(*command, "--html").stdout

    assert head.split() == ["model.name", "model.conv_layers", "age_mae"]
    assert first.split() == ["basic_cnn", "2", "7.000"]
    assert second.split() == ["resnet10t", "6.000"]  # the field is of the other branch
    assert r"\begin{tabular}{llrrrrr}" in latex
    assert r"model.name & model.conv\_layers & seeds" in latex
    assert r"resnet10t &  & 1 & $6.000$" in latex
    assert "<th>model.name</th><th>model.conv_layers</th><th>against</th>" in page


def test_what_differs_between_rows_keeps_its_column(agr: Agr, record_sweep: Recorder) -> None:
    sweep = record_sweep(document={"search": {"algorithm": "grid"}})
    sweep.trial(0, [7.0, 6.0], params={"model.name": "basic_cnn"})
    sweep.trial(1, [6.0], params={"model.name": "resnet10t"})

    text = agr("table", "faces", "--rows", "model.name", "--cols", "age_mae").stdout

    assert text.splitlines()[0].split() == ["model.name", "age_mae", "epochs", "seconds"]
    assert "each row: 1 seeds" not in text
    assert "each row: 1 seed" in text


def test_a_single_row_has_every_column(agr: Agr, record_sweep: Recorder) -> None:
    sweep = record_sweep(document={"search": {"algorithm": "grid"}})
    sweep.trial(0, [7.0], params={"model.name": "basic_cnn"})

    text = agr("table", "faces", "--rows", "model.name", "--cols", "age_mae").stdout

    assert text.splitlines()[0].split() == ["model.name", "seeds", "age_mae", "epochs", "seconds"]
    assert "each row" not in text


def test_a_table_that_is_piped_is_one_table_of_any_width(agr: Agr, ids: dict[str, list[str]]) -> None:
    lines = agr("table", "faces", "--cols", "age_mae,gender_acc,race_acc,loss,age_cs5").stdout.splitlines()

    assert len(lines[0]) > 100
    assert "…" not in "".join(lines)
    assert lines[0].split() == ["variant", "against", "age_mae", "gender_acc", "race_acc", "loss", "age_cs5"]


def test_json_has_every_figure_with_its_trials(agr: Agr, ids: dict[str, list[str]]) -> None:
    found = json.loads(agr("table", "faces", "--cols", "age_mae", "--json").stdout)

    assert found["columns"] == [{"metric": "best/age_mae", "direction": "minimize"}]
    row = found["rows"][1]
    assert (row["label"], row["from"], row["seeds"], row["epochs"]) == ("b_s", "base", 3, 3)
    cell = row["cells"]["best/age_mae"]
    assert cell["trials"] == ids["b_s"]
    assert cell["mean"] == pytest.approx(7.0333, abs=1e-4)
    assert cell["difference"]["verdict"] == "better"
    assert cell["difference"]["low"] < cell["difference"]["mean"] < cell["difference"]["high"] < 0


def test_csv_reads_back_with_all_digits(agr: Agr, ids: dict[str, list[str]]) -> None:
    text = agr("table", "faces", "--cols", "age_mae", "--csv").stdout

    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["variant"] for row in rows] == ["base", "b_s", "same"]
    assert float(rows[1]["best/age_mae.mean"]) == pytest.approx((6.0 + 7.1 + 8.0) / 3, abs=1e-12)
    assert rows[1]["best/age_mae.verdict"] == "better"
    assert rows[0]["best/age_mae.difference"] == ""
    assert rows[2]["trials"].split() == ids["same"]


def test_latex_is_a_booktabs_tabular_with_names_escaped(agr: Agr, ids: dict[str, list[str]]) -> None:
    text = agr("table", "faces", "--cols", "age_mae", "--latex").stdout

    body = [line for line in text.splitlines() if not line.startswith("%")]
    assert body[0] == r"\begin{tabular}{lrrrrr}"
    assert body[2] == r"variant & seeds & age\_mae & $\Delta$ & epochs & seconds \\"
    assert body[5] == r"b\_s & 3 & $7.0 \pm 2.5$ & $\mathbf{-0.97 \pm 0.14}$ & 3 & 3 \\"
    assert "(tie)" in body[6]
    assert {line.count("&") for line in body[2:-2] if "&" in line} == {5}
    assert f"% b_s: {' '.join(ids['b_s'])}" in text


class Page(HTMLParser):
    """The cells of each row, and the elements that were never closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data


def test_html_is_a_page_with_every_trial(agr: Agr, ids: dict[str, list[str]]) -> None:
    text = agr("table", "faces", "--html").stdout

    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    titles, *rows = page.rows
    assert titles == ["variant", "against", "seeds", "age_mae", "gender_acc", "epochs", "seconds", "trials"]
    assert [row[0] for row in rows] == list(ids)
    assert [len(row) for row in rows] == [len(titles)] * 3
    assert [row[-1] for row in rows] == ["".join(trials) for trials in ids.values()]
    assert text.startswith("<!doctype html>")
    assert '<span class="better">-0.97 ± 0.14 better</span>' in text
    assert all(trial in text for trials in ids.values() for trial in trials)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--latex", "--csv"), "--latex and --csv given; choose one format"),
        (("--cols", "age_mae,,x"), "--cols 'age_mae,,x' given; it takes names"),
        (("--rows", ""), "--rows '' given; it takes names"),
        (("--cols", "age_mea"), "Did you mean"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    agr: Agr, ids: dict[str, list[str]], options: tuple[str, ...], message: str
) -> None:
    assert message in agr("table", "faces", *options, code=2).stderr


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(7.1234, 0.214, 5), "7.12 ± 0.21"),
        (Estimate(7.1234, 12.6, 2), "7 ± 13"),
        (Estimate(0.91234, 0.00234, 5), "0.9123 ± 0.0023"),
        (Estimate(1234.5, 340.0, 5), "1234 ± 340"),
        (Estimate(7.1234, None, 1), "7.123"),
        (Estimate(7.0, None, 2), "7.000"),
        (Estimate(7.0, 1e-9, 2), "7.000000 ± 0.000000"),
    ],
)
def test_a_figure_is_as_precise_as_its_margin(estimate: Estimate, text: str) -> None:
    assert figure(estimate) == text
