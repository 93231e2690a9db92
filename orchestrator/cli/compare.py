"""``agr compare``: settings, figures and model sizes of trials side by side."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.arguments.output import output_file
from orchestrator.cli.common import (
    JsonOption,
    StorageOption,
    TrialsArgument,
    console,
    errors_in_one_line,
    print_json,
    say,
    storage_at,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agr_core.reporting import EpochReport
    from orchestrator.journal.sweep_state import SweepState, TrialState
    from orchestrator.storage.base import Storage

DEFAULT_METRIC = "val/loss"
_NARROW = 12
_MODEL_ROWS = {"parameters": "parameters", "layers": "layers", "gflops": "GFLOPs an image"}


def register(app: typer.Typer) -> None:
    """Add the command of this module to ``app``."""
    app.command()(compare)


def compare(
    trials: TrialsArgument,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            help="Metric whose curves are drawn and whose mean change between epochs is shown. Default: the objective "
            f"is drawn, and the mean change is that of {DEFAULT_METRIC}.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the metric's curves of all trials to this PNG file.")
    ] = None,
    models: Annotated[
        bool, typer.Option("--models", help="Also show parameters, layers and operations of the models.")
    ] = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare trials: differing settings, figures and models.

    Example: agr compare 1f3a 77c0 --metric val/age_loss -o curves.png
    """
    with errors_in_one_line():
        if output is not None:
            output_file(output, "--output", suffix=".png")
        from orchestrator.results.evaluated_on import EVALUATED, same_images

        opened = storage_at(storage)
        compared = [Compared(opened, text) for text in dict.fromkeys(trials)]
        _name_by_difference(compared)
        differing = [part for part in EVALUATED if part not in same_images([trial.trial for trial in compared], opened)]
        if "val" in differing:
            alike = "" if "test" in differing else " Those of test/... do: they are of the same images."
            say(f"warning: these trials were validated on different splits, so their figures do not compare.{alike}")
        elif differing:
            say("warning: the test parts of these trials hold different images, so figures of test/... do not compare.")
        if output is not None:
            from agr_core.evaluation.curves import overlay_png

            reports = {trial.name: trial.reports for trial in compared}
            drawn = metric or compared[0].state.started.objective.name
            output.write_bytes(overlay_png(reports, drawn, f"{drawn} of {len(compared)} trials"))
        documents = list(_documents(compared, metric or DEFAULT_METRIC, models=models))
        if as_json:
            print_json(documents)
        else:
            _print_curves(compared, metric)
            _print_side_by_side(documents, shown=_shown_settings(compared))


class Compared:
    """Trial in a comparison, with its sweep's state and its document for ``--json``."""

    def curve(self, name: str) -> list[float]:
        """Return a metric, or the objective of its sweep, for each epoch; NaN where it was not reported."""
        if name == self.state.started.objective.name:
            return [report.value for report in self.trial.reports]
        return [report.metrics.get(name, math.nan) for report in self.trial.reports]

    def __init__(self, storage: Storage, text: str) -> None:
        from agr_core.evaluation.guards import warnings
        from orchestrator.catalog.find import find_trial, label_of, trial_in
        from orchestrator.journal.segments import read_state
        from orchestrator.results.trial_metrics import kept_metrics, kept_report, reports_of
        from orchestrator.results.wording import flat, trial_name
        from orchestrator.tracking.runs import trial_of_run

        sweep_id, trial_id = find_trial(storage, text, trial_of_run)
        label = label_of(text)
        self.storage = storage
        self.state: SweepState = read_state(storage, sweep_id)
        self.trial: TrialState = trial_in(self.state, trial_id)
        self.name = f"{trial_id} {trial_name(self.trial.created)}"
        self.reports: Sequence[EpochReport] = reports_of(self.trial)
        self.config = dict(flat(self.trial.created.config))
        best = kept_report(self.trial, self.state.started, label)
        reported = {} if best is None else best.metrics
        trained = {name: value for name, value in reported.items() if name.startswith("train/")}
        self.document: dict[str, Any] = {
            "trial_id": trial_id,
            "sweep_id": sweep_id,
            "variant": self.trial.created.variant,
            "outcome": self.trial.outcome,
            "epochs": self.reports[-1].epoch if self.reports else 0,
            "stopped_early": self.trial.ended is not None and self.trial.ended.stopped_early,
            "best_epoch": None if best is None else best.epoch,
            "metrics": trained | kept_metrics(self.trial, self.state.started, label),
            "warnings": warnings(reported),
        }


def _name_by_difference(compared: Sequence[Compared]) -> None:
    """Name each trial by the varied settings in which it differs from the others; their usual names may be equal."""
    from orchestrator.results.wording import constants, setting

    common = constants([trial.trial.created.params for trial in compared])
    for trial in compared:
        if words := setting(trial.trial.created, without=common):
            trial.name = f"{trial.trial.trial_id} {words}"


def _documents(compared: Sequence[Compared], metric: str, *, models: bool) -> Iterator[dict[str, Any]]:
    """Yield the document of each trial; ``config`` holds only the paths in which the trials differ."""
    from agr_core.evaluation.curves import mean_change

    paths = dict.fromkeys(path for trial in compared for path in trial.config)
    differing = [
        path for path in paths if any(trial.config.get(path) != compared[0].config.get(path) for trial in compared)
    ]
    for trial in compared:
        document = {
            **trial.document,
            "config": {path: trial.config[path] for path in differing if path in trial.config},
            "last": {metric: trial.reports[-1].metrics.get(metric) if trial.reports else None},
            "mean_change": {metric: mean_change(trial.reports, metric)},
        }
        if models:
            from orchestrator.results.trained_model import model_info_of

            document["model"] = model_info_of(trial.storage, trial.state, trial.trial).to_json()
        yield document


# ---- text output


def _print_curves(compared: Sequence[Compared], metric: str | None) -> None:
    """Print the curves of a metric for all trials; if None, of the objective of the first trial's sweep."""
    from orchestrator.cli.render.chart import chart

    name = compared[0].state.started.objective.name if metric is None else metric
    curves = {trial.name: trial.curve(name) for trial in compared}
    out = console()
    for line in chart(curves, name, out.width):
        out.print(line, soft_wrap=True)


def _shown_settings(compared: Sequence[Compared]) -> list[str]:
    """Return the paths to print, most important first, without those implied by another path.

    A path that some trials lack belongs to a branch. It is shown if the trials differ in it or their sweep varies it.
    """
    from orchestrator.results.wording import by_importance, constants

    same = constants([trial.config for trial in compared])
    varied = {path for trial in compared for path in trial.trial.created.params}
    return by_importance(path for trial in compared for path in trial.config if path not in same or path in varied)


def _print_side_by_side(documents: Sequence[dict[str, Any]], *, shown: Sequence[str]) -> None:
    from orchestrator.cli.render.fitted_table import Column, print_table

    rows, out = list(_rows(documents, shown)), console()
    for marks in (",", ",_", ",_/"):  # break cells only as far as the width requires
        columns = [Column("", [title for title, _ in rows])]
        for number, document in enumerate(documents):
            cells = [_broken(cells[number], marks) for _, cells in rows]
            columns.append(Column(document["trial_id"], cells, right=True))
        if sum(column.width for column in columns) <= out.width:
            break
    print_table(columns, out)
    for document in documents:
        for words in document["warnings"]:
            say(f"warning: trial {document['trial_id']}: {words}")


def _broken(cell: str, marks: str) -> str:
    """Break a long cell into several lines after any of the characters in ``marks``."""
    if len(cell) <= _NARROW:
        return cell
    for mark in marks:
        cell = cell.replace(mark, f"{mark}\n")
    return cell


def _rows(documents: Sequence[dict[str, Any]], shown: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield title and cells of each row: settings, epochs, figures, model."""
    from orchestrator.results.wording import short

    for path in [path for path in shown if any(path in document["config"] for document in documents)]:
        yield path, [short(document["config"][path]) if path in document["config"] else "" for document in documents]
    yield "outcome", [document["outcome"] or "running" for document in documents]
    yield "epochs", [f"{document['epochs']}{'*' if document['stopped_early'] else ''}" for document in documents]
    yield "best epoch", [str(document["best_epoch"] or "") for document in documents]
    for name in _shown_metrics(documents):
        yield name, [_figure(document["metrics"].get(name)) for document in documents]
    for metric in documents[0]["last"]:
        yield f"{metric}, last epoch", [_figure(document["last"][metric]) for document in documents]
        yield f"{metric}, change an epoch", [_figure(document["mean_change"][metric]) for document in documents]
    sizes = [document["model"] for document in documents if "model" in document]
    for key, title in _MODEL_ROWS.items() if sizes else ():
        yield title, [f"{size[key]:,}" if isinstance(size[key], int) else f"{size[key]:.4g}" for size in sizes]


def _shown_metrics(documents: Sequence[dict[str, Any]]) -> list[str]:
    """Return the leaderboard's metrics, then the losses, of each part, as far as some trial reports them."""
    from orchestrator.results.wording import KEY_METRICS

    reported = {name for document in documents for name in document["metrics"]}
    figures = [f"{part}/{name}" for name in KEY_METRICS for part in ("best", "test", "train")]
    losses = [f"{part}/{name}loss" for part in ("train", "best", "test") for name in ("", "age_", "gender_", "race_")]
    return [name for name in (*figures, *losses) if name in reported]


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
