"""Write the artifacts of a run: a trial's record, learning curves, confusion matrices, the best weights."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agr_core.reporting import EpochReport
from orchestrator.assets.recorded import download_recorded, read_recorded, read_recorded_lines
from orchestrator.errors import DamagedError, NotFoundError
from orchestrator.journal.events import SweepStarted
from orchestrator.journal.sweep_state import TrialState, attempt_folder
from orchestrator.storage import layout
from orchestrator.storage.base import Storage

_COPIED = ("trial.json", "metrics.jsonl", "log.txt")


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a folder for the artifacts of a run, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="agr-sync-") as folder:
        yield Path(folder)


def write_sweep_files(folder: Path, sweep: SweepStarted) -> None:
    """Write ``sweep.yaml`` (the document after profiles and ``--set``) and ``provenance.json``."""
    from ruamel.yaml import YAML

    yaml = YAML()
    with (folder / "sweep.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(sweep.document, file)
    _write_json(folder / "provenance.json", sweep.provenance)


def write_trial_files(folder: Path, storage: Storage, sweep: SweepStarted, trial: TrialState, *, title: str) -> None:
    """Write the available artifacts of an ended trial.

    ``trial.json``, ``metrics.jsonl`` and ``log.txt`` of its attempt, ``errors.txt`` of the attempts that failed,
    ``plots/curves.png``, and ``plots/<table>.png`` for each confusion matrix of the best epoch.

    Raises:
        DamagedError: If ``metrics.jsonl`` is not a metrics file of a trial, or does not match the journal.
    """
    source = attempt_folder(sweep.sweep_id, trial)
    stored = {name: _read(storage, f"{source}/{name}", trial) for name in _COPIED} if source is not None else {}
    for name, data in stored.items():
        if data is not None:
            (folder / name).write_bytes(data)
    if stored.get("trial.json") is None:  # it failed before it could write one
        document = {"sweep_id": sweep.sweep_id, "trial_id": trial.trial_id, "config": trial.created.config}
        _write_json(folder / "trial.json", {**document, "provenance": sweep.provenance})
    if trial.failures:
        errors = [f"attempt {failed.attempt}: {failed.error}\n{failed.details}\n" for failed in trial.failures]
        (folder / "errors.txt").write_text("\n".join(errors), encoding="utf-8")
    metrics = stored.get("metrics.jsonl")
    if metrics:
        reports = _parsed(metrics, f"{storage.uri}/{source}/metrics.jsonl")
        _plot(folder / "plots", reports, sweep, trial, title)


def write_plots(folder: Path, storage: Storage, sweep: SweepStarted, trial: TrialState, *, title: str) -> list[Path]:
    """Write all pictures of a trial into ``folder``, which is made if need be; returns their paths.

    ``curves.png`` (loss and objective), ``tasks.png`` (train against val, task by task), and the confusion matrices of
    the best epoch and of the test part where it was read.

    Raises:
        NotFoundError: If the storage has no epoch of the trial.
        DamagedError: If ``metrics.jsonl`` is not a metrics file of a trial, or does not match the journal.
    """
    from agr_core.evaluation.curves import task_curves_png

    reports = stored_reports(storage, sweep.sweep_id, trial)
    if not reports:
        raise NotFoundError(f"trial {trial.trial_id} stored no epoch in {storage.uri}, so there is nothing to draw.")
    folder.mkdir(parents=True, exist_ok=True)
    _plot(folder, reports, sweep, trial, title)
    if len(reports) > 1:
        (folder / "tasks.png").write_bytes(task_curves_png(reports, title))
    _plot_tables(folder, trial.test_tables, title)
    return sorted(folder.glob("*.png"))


def write_test_tables(folder: Path, trial: TrialState, *, title: str) -> None:
    """Write ``plots/<table>.png`` for each confusion matrix of the test part."""
    _plot_tables(folder / "plots", trial.test_tables, title)


def write_weights(folder: Path, storage: Storage, sweep_id: str, trial: TrialState) -> bool:
    """Write ``weights/best.safetensors``, one such file for each label of ``keep``, their configuration and classes.

    Return False if the storage has no weights.
    """
    source = attempt_folder(sweep_id, trial)
    keys = {label: layout.best_weights(source, epoch) for label, epoch in trial.kept_epochs.items() if source}
    if not keys or not all(storage.exists(key) for key in keys.values()):
        return False
    target = folder / "weights"
    target.mkdir()
    for label, key in keys.items():
        download_recorded(storage, key, target / f"{label}.safetensors", trial.recorded_sha256(key))
    _write_json(target / "config.json", trial.created.config)
    labels = _read(storage, f"{source}/{layout.LABELS}", trial)
    if labels is not None:
        (target / layout.LABELS).write_bytes(labels)
    return True


def _plot(folder: Path, reports: list[EpochReport], sweep: SweepStarted, trial: TrialState, title: str) -> None:
    from agr_core.evaluation.plots import curves_png

    folder.mkdir(exist_ok=True)
    if len(reports) > 1:  # a trial stopped after one epoch has points and no curves
        (folder / "curves.png").write_bytes(curves_png(reports, sweep.objectives, title))
    best = next((report for report in reports if report.epoch == getattr(trial.ended, "best_epoch", None)), None)
    if best is not None:
        _plot_tables(folder, best.tables, f"{title}, epoch {best.epoch}")


def _plot_tables(folder: Path, tables: Mapping[str, Any], title: str) -> None:
    from agr_core.evaluation.plots import confusion_png

    folder.mkdir(exist_ok=True)
    for name, table in tables.items():
        part, _, table_name = name.rpartition("/")
        words = f"{title}\n{table_name.replace('_', ' ')}, {part}"
        (folder / f"{part.replace('/', '_')}_{table_name}.png").write_bytes(confusion_png(table, words))


def stored_reports(storage: Storage, sweep_id: str, trial: TrialState) -> list[EpochReport]:
    """Return all reports of a trial with their tables, as stored by its attempt; [] if there are none.

    Raises:
        DamagedError: If ``metrics.jsonl`` is not a metrics file of a trial, or does not match the journal.
    """
    source = attempt_folder(sweep_id, trial)
    lines = None if source is None else _read(storage, f"{source}/metrics.jsonl", trial)
    return [] if lines is None else _parsed(lines, f"{storage.uri}/{source}/metrics.jsonl")


def _parsed(lines: bytes, source: str) -> list[EpochReport]:
    try:
        return [EpochReport.from_json(json.loads(line)) for line in lines.splitlines()]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{source} is not a metrics file of a trial: {error}") from error


def _read(storage: Storage, key: str, trial: TrialState) -> bytes | None:
    try:
        if key.endswith("/metrics.jsonl"):
            return b"".join(read_recorded_lines(storage, key, trial))
        return read_recorded(storage, key, trial)
    except NotFoundError:
        return None


def _write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
