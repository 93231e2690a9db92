"""``agr show``: settings, figures by part and group, and provenance of a trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.arguments.output import check_folder
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
    from orchestrator.journal.sweep_state import SweepState, TrialState
    from orchestrator.storage.base import Storage

_STAGE_FIELDS = {"stage", "key", "weights_sha256", "epochs", "best_epoch", "value", "seconds"}
_PARTS = ("train", "val", "test")


def register(app: typer.Typer) -> None:
    """Add the command of this module to ``app``."""
    app.command()(show)


def show(
    trial: TrialArgument,
    plots: Annotated[
        Path | None, typer.Option("--plots", help="Also write learning curves and confusion matrices to this folder.")
    ] = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Also show the full configuration, every figure, groups, classes and provenance."),
    ] = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one trial: settings, figures by part and by group, and provenance.

    Example: agr show best
    """
    with errors_in_one_line():
        if plots is not None:
            check_folder(plots, "--plots")
        from dataclasses import asdict

        from agr_core.evaluation.guards import warnings
        from agr_core.evaluation.names import is_of_the_machine
        from agr_core.evaluation.scores import class_report
        from agr_core.objective import BEST
        from orchestrator.catalog.find import find_trial, label_of, trial_in
        from orchestrator.journal.segments import read_state
        from orchestrator.results.pooled import pooled_configurations
        from orchestrator.results.trial_metrics import kept_metrics, kept_report, trial_metrics
        from orchestrator.tracking.runs import trial_of_run

        opened = storage_at(storage)
        sweep_id, trial_id = find_trial(opened, trial, trial_of_run)
        state = read_state(opened, sweep_id)
        trial_state = trial_in(state, trial_id)
        label = label_of(trial)
        best = kept_report(trial_state, state.started, label)
        metrics = (
            trial_metrics(trial_state, state.started)
            if label == BEST
            else kept_metrics(trial_state, state.started, label)
        )
        reported = {} if best is None else best.metrics
        trained = {name: value for name, value in reported.items() if name.startswith("train/")}
        pooled = pooled_configurations(state, opened).get(trial_state.created.configuration, {})
        document = {
            "trial_id": trial_id,
            "sweep_id": sweep_id,
            "run_id": run_ids_of([(state.started, trial_id)]).get((sweep_id, trial_id)) if as_json else None,
            "outcome": trial_state.outcome,
            "config": trial_state.created.config,
            "metrics": trained | metrics,
            "provenance": _provenance(opened, state, trial_state),
            "params": trial_state.created.params,
            "reconfigured": None if trial_state.reconfigured is None else trial_state.reconfigured.reason,
            "variant": trial_state.created.variant,
            "number": trial_state.created.number,
            "epochs": trial_state.reports[-1].epoch if trial_state.reports else 0,
            "stages": [
                {**event.model_dump(include=_STAGE_FIELDS), "trained": event.kind == "stage_trained"}
                for event in trial_state.stages.values()
            ],
            "label": label,
            "best_epoch": None if best is None else best.epoch,
            "kept_epochs": trial_state.kept_epochs,
            "stopped_early": trial_state.ended is not None and trial_state.ended.stopped_early,
            "attempts": trial_state.attempts,
            "drift": trial_state.drift,
            "machine": {
                name: value
                for report in trial_state.reports[-1:]
                for name, value in report.metrics.items()
                if is_of_the_machine(name)
            },
            "test_reads": trial_state.test_reads,
            "pooled": {name: estimate.to_json() for name, estimate in pooled.items()},
            "error": None if trial_state.ended is None else trial_state.ended.error,
            "warnings": warnings(reported),
            "tags": state.annotations.tags_of(trial_id),
            "notes": [asdict(note) for note in state.annotations.notes.get(trial_id, ())],
            "classes": {
                name: class_report(table) for name, table in _tables(opened, state, trial_state, label).items()
            },
        }
        if plots is not None:
            _draw(plots, opened, state, trial_state)
        if as_json:
            print_json(document)
            return
        _print_head(document, trial_state, sweep_reads=state.test_reads)
        if everything:
            _print_all(document, state.started.objectives)
        else:
            from orchestrator.cli.render.trial_screen import print_screen

            print_screen(console(), state, trial_state, _by_part(trained | metrics), label, pooled)


def _draw(folder: Path, storage: Storage, state: SweepState, trial: TrialState) -> None:
    from orchestrator.results.wording import trial_name
    from orchestrator.tracking.files import write_plots

    title = f"{trial.trial_id} {trial_name(trial.created)}"
    for path in write_plots(folder, storage, state.started, trial, title=title):
        say(f"wrote {path}")


def _provenance(storage: Storage, state: SweepState, trial: TrialState) -> dict[str, Any]:
    """Return the provenance recorded by the trial's worker, else by its driver, and the digests of its inputs."""
    from orchestrator.errors import NotFoundError
    from orchestrator.journal.sweep_state import attempt_folder
    from orchestrator.results.attempt_files import recorded_provenance

    folder = attempt_folder(state.started.sweep_id, trial)
    recorded = state.started.provenance
    if folder is not None:
        with suppress(NotFoundError):  # it failed before recording its provenance
            recorded = recorded_provenance(storage, folder, trial)
    created = trial.created
    names = ("config_digest", "data_digest", "split_digest", "data_uri", "weights_sha256")
    digests = {name: getattr(created, name) for name in names}
    return {**recorded, **digests}


def _tables(storage: Storage, state: SweepState, trial: TrialState, label: str) -> dict[str, Any]:
    """Return the confusion matrices of a label's epoch, and of the test part if evaluated with its weights."""
    from orchestrator.results.trial_metrics import kept_report
    from orchestrator.tracking.files import stored_reports

    best = kept_report(trial, state.started, label)
    reports = [] if best is None else stored_reports(storage, state.started.sweep_id, trial)
    of_best = next((report.tables for report in reports if best is not None and report.epoch == best.epoch), {})
    return {**of_best, **(trial.tests[label].tables if label in trial.tests else {})}


# ---- text output


_UNITS = {
    "time/epoch_s": "{:.3g} s",
    "time/images_per_s": "{:,.0f} images/s in training",
    "memory/main_gb": "{:.2f} GB of memory",
    "memory/gpu_gb": "{:.2f} GB of GPU memory",
}


def _of_the_machine(figures: Mapping[str, float]) -> str:
    return ", ".join(words.format(figures[name]) for name, words in _UNITS.items() if name in figures)


def _print_head(document: dict[str, Any], trial: TrialState, *, sweep_reads: int) -> None:
    """Print the trial's identity, outcome and warnings."""
    from datetime import UTC, datetime

    from rich.text import Text

    from orchestrator.journal.annotations import tag_words
    from orchestrator.results.wording import trial_name

    out = console()
    outcome = document["outcome"] or "running"
    out.print(Text(document["trial_id"], style="bold"), f" {trial_name(trial.created)}  ({outcome})", highlight=False)
    early = " (stopped early)" if document["stopped_early"] else ""
    epochs, attempts = (_counted(document[name], name) for name in ("epochs", "attempts"))
    out.print(f"sweep {document['sweep_id']}, {epochs}{early}, {attempts}")
    if document["machine"]:
        out.print(f"last epoch: {_of_the_machine(document['machine'])}")
    if document["error"]:
        out.print(f"reason: {document['error']}", style="red")
    for failure in trial.failures:
        out.print(f"attempt {failure.attempt} failed: {failure.error}", style="red")
    if document["reconfigured"]:
        out.print(f"not as proposed: {document['reconfigured']}", style="yellow", soft_wrap=True)
    if document["tags"]:
        out.print(f"tags: {', '.join(tag_words(document['tags']))}", highlight=False)
    for note in document["notes"]:
        written = datetime.fromtimestamp(note["time"], UTC)
        out.print(
            f"note of {note['author']}, {written:%Y-%m-%d %H:%M} UTC: {note['text']}", highlight=False, soft_wrap=True
        )
    for line in document["drift"]:
        out.print(f"drift since the sweep began: {line}", style="yellow", soft_wrap=True)
    for words in document["warnings"]:
        out.print(f"warning: {words}", style="yellow", soft_wrap=True)
    for stage in document["stages"]:
        how = "trained by this trial" if stage["trained"] else "trained before, taken from the storage"
        figures = f"epoch {stage['best_epoch']} of {stage['epochs']} with {stage['value']:.5g}"
        out.print(
            f"starts from stage {stage['stage']} ({stage['key'][:12]}): {how}; {figures}",
            highlight=False,
            soft_wrap=True,
        )
    if document["test_reads"]:
        reads = f"reads of the test part: {document['test_reads']} for this trial, {sweep_reads} in its sweep"
        out.print(reads, style="dim", highlight=False)


def _print_all(document: dict[str, Any], objectives: Sequence[Objective]) -> None:
    """Print the full configuration, every figure, groups, classes and provenance."""
    from rich.text import Text

    from agr_core.config import TrialConfig
    from orchestrator.results.wording import flat, short

    out = console()
    config = TrialConfig.from_document(document["config"])
    given = {**dict(flat(config.model_dump(mode="json", exclude_defaults=True))), **document["params"]}
    lines = {
        path: f"{short(value)}{'  (varies)' if path in document['params'] else ''}" for path, value in given.items()
    }
    print_pairs("configuration, as far as it is not the default", lines)
    best = document["best_epoch"]
    by = "the objective" if document["label"] == "best" else f"`{document['label']}`"
    if document["label"] == "best" and len(objectives) > 1:
        by = f"the first objective, {objectives[0].name}"
    out.print(Text("\nmetrics", style="bold"), "" if best is None else f"of epoch {best}, the best by {by}")
    others = {label: epoch for label, epoch in document["kept_epochs"].items() if label != document["label"]}
    for label, epoch in others.items():
        out.print(f"also kept: {document['trial_id']}@{label}, epoch {epoch}", style="dim", highlight=False)
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
    """Return figures of train, val (at the best epoch), test and other data sets by part, names without prefixes."""
    prefixes = (name.partition("/")[0] for name in metrics)
    foreign = dict.fromkeys(part for part in prefixes if part.startswith("test.") or part.endswith("_augmented"))
    parts: dict[str, dict[str, float]] = {part: {} for part in (*_PARTS, *foreign)}
    for name, value in metrics.items():
        prefix, _, figure = name.partition("/")
        part = "val" if prefix == "best" else prefix
        if part in parts:  # figures of other labels are shown by TRIAL@label
            parts[part][figure] = value
    return parts


def _part_table(parts: Mapping[str, Metrics]) -> Table:
    """Build a table with a row for each overall figure, losses first, and a column for each evaluated part."""
    from agr_core.evaluation.names import is_of_one_group

    names = {name for part in parts.values() for name in part if not is_of_one_group(name)}
    shown = [part for part in parts if parts[part]]
    table = _plain_table("", *shown)
    for name in sorted(names, key=lambda name: (not name.endswith("loss"), name)):
        table.add_row(name, *(_cell(parts[part].get(name)) for part in shown))
    return table


def _group_table(part: Metrics, by: str) -> Table | None:
    """Build a table with a row for each group, its image count, a row for the gap, and a column for each figure.

    Returns None without groups.
    """
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
    for index, title in enumerate(titles):
        table.add_column(title, justify="right" if index else "left", no_wrap=True)
    return table


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"


def _counted(count: int, plural: str) -> str:
    return f"{count} {plural.removesuffix('s') if count == 1 else plural}"
