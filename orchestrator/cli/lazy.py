"""Registry of the commands of ``agr``; a command's module is imported when the command is used.

``agr --help`` and completion need only the name and first paragraph of each command, which are stored here.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group


@dataclass(frozen=True)
class Listed:
    """Entry of a command: its module in this package and the first paragraph of its help."""

    module: str
    help: str
    hidden: bool = False


COMMANDS = {
    "leaderboard": Listed("results", "Rank the trials of one sweep, or of several on the same split."),
    "list": Listed("watch.listing", "List the sweeps of a storage, newest first."),
    "status": Listed(
        "results", "Show a sweep's progress, its running trials by node, and whether its driver is alive."
    ),
    "attach": Listed(
        "watch.attach", "Show the live view of a sweep with a driver on any machine; Ctrl-C ends only the view."
    ),
    "logs": Listed("results", "Print the log of a trial's last attempt."),
    "table": Listed("table", "Print means with intervals over seeds, and paired differences to each row's base."),
    "board": Listed(
        "watch.board", "Serve a local live web page about sweeps: curves, importance, leaderboard, workers, errors."
    ),
    "report": Listed(
        "watch.report",
        "Write an HTML report of one sweep, or several on the same split: curves, importance, groups, leaderboard.",
    ),
    "show": Listed("show", "Show one trial: settings, figures by part and by group, and provenance."),
    "compare": Listed("compare", "Compare trials: differing settings, figures and models."),
    "ensemble": Listed(
        "predictions.ensemble",
        "Average the stored predictions of trials on the same images; print the figures of each and of the ensemble.",
    ),
    "predict": Listed(
        "predict",
        "Predict age, gender and race of the faces in images, with the preprocessing of training and evaluation.",
    ),
    "serve": Listed(
        "serve", "Serve a local web page that predicts age, gender and race of the faces in an image. Ctrl-C ends it."
    ),
    "check": Listed(
        "planning.check",
        "Train three steps and one evaluation of each different model, image size and batch where the sweep would run.",
    ),
    "plan": Listed(
        "planning.plan",
        "Forecast a sweep on machines not yet rented, by simulation: epochs, GPU-hours, hours, dollars, idle share.",
    ),
    "submit": Listed("run", "Run a sweep file, with live progress."),
    "resume": Listed("run", "Resume an interrupted or paused sweep; no trial is repeated or duplicated."),
    "pause": Listed(
        "control.commands",
        "Pause a sweep: suspend its trials at their checkpoints and propose none; `agr resume` continues it.",
    ),
    "stop": Listed("run", "Stop a sweep through its driver; running trials are closed as interrupted."),
    "kill": Listed("run", "End one trial through its sweep's driver, closed as interrupted; the sweep continues."),
    "extend": Listed(
        "control.commands",
        "Add trials, dollars, GPU-hours or time to a sweep; a completed sweep continues with its full history.",
    ),
    "enqueue": Listed(
        "control.commands", "Queue a configuration as the next trial; the search draws the values that it leaves open."
    ),
    "retry": Listed(
        "control.commands", "Retry failed or terminated trials within the sweep; earlier attempts stay in the journal."
    ),
    "continue": Listed(
        "control.commands",
        "Train a trial up to a total number of epochs, with the result of a trial planned that long from the start.",
    ),
    "narrow": Listed(
        "control.commands",
        "Restrict further proposals to smaller ranges or choices; results outside them still inform the search.",
    ),
    "set": Listed(
        "control.commands",
        "Set the number of concurrent trials; excess trials are suspended at their checkpoints until a slot is free.",
    ),
    "notify": Listed(
        "control.notify",
        "Check the addresses of AGR_NOTIFY, which get a message when a sweep ends, fails or nears its budget.",
    ),
    "rerun": Listed("run", "Retrain a trial and compare every figure of every epoch; exit 1 on any difference."),
    "keep": Listed(
        "remote",
        "Drive a sweep in a child process, and start it again if it dies; jobs on the head run this.",
        hidden=True,
    ),
    "drive": Listed(
        "remote", "Drive a sweep already submitted to the storage; jobs on the head run this.", hidden=True
    ),
    "gc": Listed(
        "cleanup",
        "Remove checkpoints and weights that are no longer needed; ended sweeps keep those of their best trials.",
    ),
    "note": Listed(
        "records.annotate",
        "Add a note to a sweep or a trial, with author and time; `agr show`, `agr status` and MLflow show it.",
    ),
    "tag": Listed(
        "records.annotate",
        "Tag a sweep or a trial; `agr list --tag`, `agr leaderboard --tag` and MLflow's search find tags.",
    ),
    "verify": Listed(
        "records.verify", "Compare the contents of a storage with their recorded digests; exit 1 on any difference."
    ),
    "repair": Listed(
        "records.repair", "Truncate a sweep's damaged journal to its last intact segment and rewrite its summary."
    ),
    "rm": Listed("cleanup", "Delete a sweep permanently: its journal, weights, logs and MLflow runs. Data sets stay."),
    "sync": Listed("sync", "Update MLflow from the journals of all sweeps; an empty MLflow is rebuilt."),
    "ui": Listed(
        "sync", "Print the MLflow link of the newest sweep's leaderboard, and serve MLflow if no server is configured."
    ),
    "validate": Listed(
        "validate", "Check a sweep file; print the size of its search space, its rungs and three sample trials."
    ),
    "schema": Listed("validate", "Write the JSON Schema of sweep files, for completion and checks in editors."),
    "data": Listed("data.data", "Create, copy and inspect data sets."),
    "storage": Listed("storage.storage", "Check a storage, and copy sweeps between storages."),
    "stack": Listed("stack", "Run local services: PostgreSQL, an S3 store and an MLflow server on both."),
    "cluster": Listed(
        "cluster", "Run a Ray cluster on rented machines: one head, joined by other nodes; access needs a token."
    ),
    "bins": Listed("bins", "Age bins."),
    "weights": Listed("weights", "Convert initial weights."),
}
"""Commands by name; ``agr --help`` lists them in the order of ``GROUPS``."""

GROUPS = {
    "Start": ("validate", "check", "plan", "submit", "resume", "rerun", "retry", "continue", "schema"),
    "Watch and control": (
        *("list", "status", "attach", "logs", "board", "ui", "sync", "notify"),
        *("pause", "stop", "kill", "set", "enqueue", "extend", "narrow"),
    ),
    "Compare and use": (
        *("leaderboard", "show", "compare", "ensemble", "table", "report", "note", "tag", "bins"),
        *("predict", "serve", "promote", "export"),
    ),
    "Data and weights": ("data", "weights"),
    "Cluster and services": ("cluster", "stack", "storage"),
    "Clean up and verify": ("gc", "rm", "verify", "repair"),
}
"""Panels of ``agr --help``; commands of no panel are in ``_OTHERS``."""

_OTHERS = "More"


def _grouped() -> Iterator[tuple[str, str]]:
    """Yield name and panel of each command, in the order of the help."""
    panels = {name: panel for panel, names in GROUPS.items() for name in names}
    for name in sorted(COMMANDS, key=lambda name: list(panels).index(name) if name in panels else len(panels)):
        yield name, panels.get(name, _OTHERS)


class LazyGroup(TyperGroup):
    """Command group that lists its ``commands`` from the registry and loads a command before running it."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, panel in _grouped():
            listed = COMMANDS[name]
            self.add_command(TyperCommand(name, help=listed.help, hidden=listed.hidden, rich_help_panel=panel))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Load the command that ``args`` start with; return its name, the command and its remaining arguments."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else load(name), rest


def load(name: str) -> Any:
    """Import the command of this name, with its parameters and subcommands.

    Raises:
        KeyError: If there is none.
    """
    module = importlib.import_module(f"orchestrator.cli.{COMMANDS[name].module}")
    app = typer.Typer()
    module.register(app)
    return get_group(app).commands[name]
