"""``agr compare``: trials side by side: in what they differ, how they did, how large their models are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import (
    JsonOption,
    StorageOption,
    console,
    errors_in_one_line,
    print_json,
    say,
    storage_at,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agr_core.reporting import EpochReport
    from orchestrator.state import SweepState, TrialState
    from orchestrator.storage.base import Storage

DEFAULT_METRIC = "val/loss"
_MODEL_ROWS = {"parameters": "parameters", "layers": "layers", "gflops": "GFLOPs an image"}


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(compare)


def compare(
    trials: Annotated[list[str], typer.Argument(help="Trial IDs, unique beginnings of them, or MLflow run IDs.")],
    metric: Annotated[
        str, typer.Option("--metric", help="The metric whose curves are drawn and whose restlessness is told.")
    ] = DEFAULT_METRIC,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Draw the metric of all trials over each other into this PNG.")
    ] = None,
    models: Annotated[
        bool, typer.Option("--models", help="Also parameters, layers and operations of the models.")
    ] = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare trials: the settings in which they differ, their figures, their models.

    Example: agr compare 1f3a 77c0 --metric val/age_loss -o curves.png
    """
    with errors_in_one_line():
        from agr_core.errors import InputError

        if output is not None and output.suffix.lower() != ".png":
            raise InputError(f"--output {output}: the picture is a PNG; give it a name that ends in .png.")
        place = storage_at(storage)
        found = [Compared(place, text) for text in dict.fromkeys(trials)]
        if len({one.trial.created.split_digest for one in found}) > 1:
            say("warning: these trials were validated on different splits, so their figures do not compare.")
        if output is not None:
            from agr_core.evaluation.curves import overlay_png

            curves = {one.name: one.reports for one in found}
            output.write_bytes(overlay_png(curves, metric, f"{metric} of {len(found)} trials"))
        documents = list(_documents(found, metric, models=models))
        if as_json:
            print_json(documents)
        else:
            _print_side_by_side(documents)


class Compared:
    """One of the trials that are compared."""

    def __init__(self, storage: Storage, text: str) -> None:
        from agr_core.evaluation.guards import warnings
        from orchestrator.journal import read_state
        from orchestrator.lookup import find_trial, label_of
        from orchestrator.tracking.describe import flat, trial_name
        from orchestrator.trial_metrics import kept_metrics, kept_report, reports_of

        sweep_id, trial_id = find_trial(storage, text)
        label = label_of(text)
        self.storage = storage
        self.state: SweepState = read_state(storage, sweep_id)
        self.trial: TrialState = self.state.trials[trial_id]
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


def _documents(found: Sequence[Compared], metric: str, *, models: bool) -> Iterator[dict[str, Any]]:
    """What is told of each trial; ``config`` holds only the paths in which they differ."""
    from agr_core.evaluation.curves import mean_change

    paths = dict.fromkeys(path for one in found for path in one.config)
    differing = [path for path in paths if any(one.config.get(path) != found[0].config.get(path) for one in found)]
    for one in found:
        document = {
            **one.document,
            "config": {path: one.config[path] for path in differing if path in one.config},
            "last": {metric: one.reports[-1].metrics.get(metric) if one.reports else None},
            "mean_change": {metric: mean_change(one.reports, metric)},
        }
        if models:
            from orchestrator.trained import model_info_of

            document["model"] = model_info_of(one.storage, one.state.started.sweep_id, one.trial).to_json()
        yield document


# ---- for people


def _print_side_by_side(documents: Sequence[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for document in documents:
        table.add_column(document["trial_id"], justify="right", overflow="fold")
    for title, cells in _rows(documents):
        table.add_row(title, *cells)
    console().print(table)
    for document in documents:
        for words in document["warnings"]:
            say(f"warning: trial {document['trial_id']}: {words}")


def _rows(documents: Sequence[dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """Title and cells of each row: settings, epochs, figures, model."""
    from orchestrator.tracking.describe import short

    for path in dict.fromkeys(path for document in documents for path in document["config"]):
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
    """The losses of each part, then what leaderboards show; only what some trial has."""
    from orchestrator.tracking.describe import KEY_METRICS

    reported = {name for document in documents for name in document["metrics"]}
    losses = [f"{part}/{name}loss" for part in ("train", "best", "test") for name in ("", "age_", "gender_", "race_")]
    figures = [f"{part}/{name}" for name in KEY_METRICS for part in ("train", "best", "test")]
    return [name for name in (*losses, *figures) if name in reported]


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
