"""``agr show``: what a trial was, how it did on each part and each group, and with what it was trained."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import (
    JsonOption,
    StorageOption,
    TrialArgument,
    console,
    errors_in_one_line,
    print_json,
    print_pairs,
    run_ids_of,
    say,
    storage_at,
)

if TYPE_CHECKING:
    from rich.table import Table

    from agr_core.objective import Objective
    from agr_core.reporting import Metrics
    from orchestrator.state import SweepState, TrialState
    from orchestrator.storage.base import Storage

_STAGE_FIELDS = {"stage", "key", "weights_sha256", "epochs", "best_epoch", "value", "seconds"}
_PARTS = ("train", "val", "test")


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(show)


def show(
    trial: TrialArgument,
    plots: Annotated[
        Path | None, typer.Option("--plots", help="Also draw learning curves and confusion matrices into this folder.")
    ] = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one trial: what it was, how it did on each part and each group, and with what it was trained."""
    with errors_in_one_line():
        from agr_core.evaluation.guards import warnings
        from agr_core.evaluation.names import is_of_the_machine
        from agr_core.evaluation.scores import class_report
        from agr_core.objective import BEST
        from orchestrator.journal import read_state
        from orchestrator.lookup import find_trial, label_of
        from orchestrator.trial_metrics import kept_metrics, kept_report, trial_metrics

        place = storage_at(storage)
        sweep_id, trial_id = find_trial(place, trial)
        state = read_state(place, sweep_id)
        found = state.trials[trial_id]
        label = label_of(trial)
        best = kept_report(found, state.started, label)
        metrics = trial_metrics(found, state.started) if label == BEST else kept_metrics(found, state.started, label)
        reported = {} if best is None else best.metrics
        trained = {name: value for name, value in reported.items() if name.startswith("train/")}
        document = {
            "trial_id": trial_id,
            "sweep_id": sweep_id,
            "run_id": run_ids_of([state]).get((sweep_id, trial_id)) if as_json else None,
            "outcome": found.outcome,
            "config": found.created.config,
            "metrics": trained | metrics,
            "provenance": _provenance(place, state, found),
            "params": found.created.params,
            "reconfigured": None if found.reconfigured is None else found.reconfigured.reason,
            "variant": found.created.variant,
            "number": found.created.number,
            "epochs": found.reports[-1].epoch if found.reports else 0,
            "stages": [
                {**event.model_dump(include=_STAGE_FIELDS), "trained": event.kind == "stage_trained"}
                for event in found.stages.values()
            ],
            "label": label,
            "best_epoch": None if best is None else best.epoch,
            "kept_epochs": found.kept_epochs,
            "stopped_early": found.ended is not None and found.ended.stopped_early,
            "attempts": found.attempts,
            "machine": {
                name: value
                for report in found.reports[-1:]
                for name, value in report.metrics.items()
                if is_of_the_machine(name)
            },
            "test_reads": found.test_reads,
            "error": None if found.ended is None else found.ended.error,
            "warnings": warnings(reported),
            "classes": {name: class_report(table) for name, table in _tables(place, state, found, label).items()},
        }
        if plots is not None:
            _draw(plots, place, state, found)
        if as_json:
            print_json(document)
        else:
            _print_trial(document, found, state.started.objectives, sweep_reads=state.test_reads)


def _draw(folder: Path, storage: Storage, state: SweepState, trial: TrialState) -> None:
    from orchestrator.tracking.describe import trial_name
    from orchestrator.tracking.files import write_plots

    title = f"{trial.trial_id} {trial_name(trial.created)}"
    for path in write_plots(folder, storage, state.started, trial, title=title):
        say(f"wrote {path}")


def _provenance(storage: Storage, state: SweepState, trial: TrialState) -> dict[str, Any]:
    """What the trial's worker recorded, else what its driver did, and the digests of what was trained."""
    from orchestrator.errors import NotFoundError
    from orchestrator.tracking.files import attempt_folder

    folder = attempt_folder(state.started.sweep_id, trial)
    recorded = state.started.provenance
    if folder is not None:
        with suppress(NotFoundError):  # it failed before it could say
            recorded = json.loads(storage.read(f"{folder}/trial.json"))["provenance"]
    created = trial.created
    names = ("config_digest", "data_digest", "split_digest", "data_uri", "weights_sha256")
    digests = {name: getattr(created, name) for name in names}
    return {**recorded, **digests}


def _tables(storage: Storage, state: SweepState, trial: TrialState, label: str) -> dict[str, Any]:
    """The confusion matrices of a label's epoch, and of the test part where it was read with its weights."""
    from orchestrator.tracking.files import stored_reports
    from orchestrator.trial_metrics import kept_report

    best = kept_report(trial, state.started, label)
    reports = [] if best is None else stored_reports(storage, state.started.sweep_id, trial)
    of_best = next((report.tables for report in reports if best is not None and report.epoch == best.epoch), {})
    return {**of_best, **(trial.tests[label].tables if label in trial.tests else {})}


# ---- for people


_UNITS = {
    "time/epoch_s": "{:.3g} s",
    "time/images_per_s": "{:,.0f} images/s in training",
    "memory/main_gb": "{:.2f} GB of memory",
    "memory/gpu_gb": "{:.2f} GB of GPU memory",
}


def _of_the_machine(figures: Mapping[str, float]) -> str:
    return ", ".join(words.format(figures[name]) for name, words in _UNITS.items() if name in figures)


def _print_trial(
    document: dict[str, Any], trial: TrialState, objectives: Sequence[Objective], *, sweep_reads: int
) -> None:
    from rich.text import Text

    from agr_core.config import TrialConfig
    from orchestrator.tracking.describe import flat, short, trial_name

    out = console()
    outcome = document["outcome"] or "running"
    out.print(Text(document["trial_id"], style="bold"), f" {trial_name(trial.created)}  ({outcome})", highlight=False)
    early = " (stopped early)" if document["stopped_early"] else ""
    out.print(f"sweep {document['sweep_id']}, {document['epochs']} epochs{early}, {document['attempts']} attempts")
    if document["machine"]:
        out.print(f"last epoch: {_of_the_machine(document['machine'])}")
    if document["error"]:
        out.print(f"because: {document['error']}", style="red")
    for failure in trial.failures:
        out.print(f"attempt {failure.attempt} failed: {failure.error}", style="red")
    if document["reconfigured"]:
        out.print(f"not as proposed: {document['reconfigured']}", style="yellow", soft_wrap=True)
    for words in document["warnings"]:
        out.print(f"warning: {words}", style="yellow", soft_wrap=True)
    config = TrialConfig.from_document(document["config"])
    given = dict(flat(config.model_dump(mode="json", exclude_defaults=True)))
    lines = {
        path: f"{short(value)}{'  (varies)' if path in document['params'] else ''}" for path, value in given.items()
    }
    print_pairs("configuration, as far as it is not the default", lines)
    for stage in document["stages"]:
        how = "trained by this trial" if stage["trained"] else "trained before, taken from the storage"
        figures = f"epoch {stage['best_epoch']} of {stage['epochs']} with {stage['value']:.5g}"
        out.print(
            f"starts from stage {stage['stage']} ({stage['key'][:12]}): {how}; {figures}",
            highlight=False,
            soft_wrap=True,
        )
    best = document["best_epoch"]
    by = "the objective" if document["label"] == "best" else f"`{document['label']}`"
    if document["label"] == "best" and len(objectives) > 1:
        by = f"the first objective, {objectives[0].name}"
    out.print(Text("\nmetrics", style="bold"), "" if best is None else f"of epoch {best}, the best by {by}")
    others = {label: epoch for label, epoch in document["kept_epochs"].items() if label != document["label"]}
    for label, epoch in others.items():
        out.print(f"kept as well: {document['trial_id']}@{label}, epoch {epoch}", style="dim", highlight=False)
    if document["test_reads"]:
        reads = f"reads of the test part: {document['test_reads']} for this trial, {sweep_reads} in its sweep"
        out.print(reads, style="dim", highlight=False)
    parts = _by_part(document["metrics"])
    out.print(_part_table(parts))
    for part in [part for part in parts if part != "train"]:
        for by in ("race", "gender", "age"):
            table = _group_table(parts[part], by)
            if table is not None:
                out.print(f"\n{part} by {by}", style="bold")
                out.print(table)
    for name, report in sorted(document["classes"].items()):
        out.print(f"\n{name.removesuffix('_confusion')}, each class", style="bold", highlight=False)
        out.print(_class_table(report))
    print_pairs("provenance", {name: short(value) for name, value in flat(document["provenance"])})


def _by_part(metrics: Metrics) -> dict[str, dict[str, float]]:
    """The figures of train, val (those of the best epoch), test and foreign data sets, without their prefixes."""
    foreign = dict.fromkeys(part for part in (name.partition("/")[0] for name in metrics) if part.startswith("test."))
    parts: dict[str, dict[str, float]] = {part: {} for part in (*_PARTS, *foreign)}
    for name, value in metrics.items():
        prefix, _, figure = name.partition("/")
        part = "val" if prefix == "best" else prefix
        if part in parts:  # what is kept for other labels is shown by TRIAL@label
            parts[part][figure] = value
    return parts


def _part_table(parts: Mapping[str, Metrics]) -> Table:
    """A row for each figure of the whole part, the losses first; a column for each part that was looked at."""
    from agr_core.evaluation.names import is_of_one_group

    names = {name for part in parts.values() for name in part if not is_of_one_group(name)}
    shown = [part for part in parts if parts[part]]
    table = _plain_table("", *shown)
    for name in sorted(names, key=lambda name: (not name.endswith("loss"), name)):
        table.add_row(name, *(_cell(parts[part].get(name)) for part in shown))
    return table


def _group_table(part: Metrics, by: str) -> Table | None:
    """A row for each group, with its images, and one for the gap; a column for each figure. None without groups."""
    groups = [name.partition(f".by_{by}.")[2] for name in part if name.startswith(f"images.by_{by}.")]
    figures = sorted({name.partition(f".by_{by}.")[0] for name in part if f".by_{by}." in name} - {"images"})
    if not groups or not figures:
        return None
    table = _plain_table("", "images", *figures)
    for group in groups:
        cells = (_cell(part.get(f"{figure}.by_{by}.{group}")) for figure in figures)
        table.add_row(group, f"{part[f'images.by_{by}.{group}']:.0f}", *cells)
    table.add_row("gap", "", *(_cell(part.get(f"{figure}.gap_by_{by}")) for figure in figures))
    return table


def _class_table(report: Mapping[str, Mapping[str, float]]) -> Table:
    table = _plain_table("", "precision", "recall", "f1", "images")
    for label, scores in report.items():
        cells = (_cell(scores[name]) for name in ("precision", "recall", "f1"))
        table.add_row(label, *cells, f"{scores['images']:.0f}")
    return table


def _plain_table(*titles: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for place, title in enumerate(titles):
        table.add_column(title, justify="right" if place else "left", no_wrap=True)
    return table


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"
