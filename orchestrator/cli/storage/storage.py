"""``agr storage``: check a storage, and copy sweeps between storages."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import EXIT_FAILED, JsonOption, console, errors_in_one_line, print_json, say

if TYPE_CHECKING:
    from orchestrator.storage.check import Finding

commands = typer.Typer(help="Check a storage, and copy sweeps between storages.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add ``agr storage`` and its commands to ``app``."""
    app.add_typer(commands, name="storage")


@commands.command()
def check(
    storage: Annotated[
        str | None,
        typer.Argument(help="s3://bucket/prefix or a folder; default: AGR_STORAGE, else a folder of AGR_HOME."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check every storage operation that agr needs. Exit code 1 unless all succeed.

    Writes 12 MiB below probes/ and removes them. Example: agr storage check s3://bucket/prefix
    """
    with errors_in_one_line():
        from orchestrator.cli.common import storage_at
        from orchestrator.storage.check import check_storage

        opened = storage_at(storage)
        findings = check_storage(opened)
        unmet = [finding.need for finding in findings if finding.tried and not finding.ok]
        if as_json:
            print_json([asdict(finding) for finding in findings])
        else:
            _print_findings(findings)
            can = "can hold sweeps" if not unmet else f"cannot hold sweeps: {', '.join(unmet)}; see docs/stores.md"
            console().print(f"{opened.uri} {can}", highlight=False, soft_wrap=True)
        if unmet:
            raise typer.Exit(EXIT_FAILED)


@commands.command()
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="Source storage.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="Target storage.")],
    sweeps: Annotated[
        list[str] | None, typer.Argument(metavar="[SWEEP]...", help="Sweep IDs or unique prefixes; default: all.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Copy sweeps with all objects they use to another storage; a repeated call resumes the copy.

    Each object is read back and compared. Both storages use the same AWS settings.
    Example: agr storage copy ~/.agr/storage s3://bucket/prefix
    """
    with errors_in_one_line():
        from agr_core.errors import InputError
        from orchestrator.catalog.copying import copy_sweep
        from orchestrator.catalog.find import find_sweep
        from orchestrator.storage import layout, open_storage
        from orchestrator.storage.check import prove_storage

        origin, target_storage = open_storage(source), open_storage(target)
        if origin.uri == target_storage.uri:
            raise InputError(f"FROM and TO are one storage, {origin.uri}; give another TO.")
        chosen = [find_sweep(origin, text) for text in sweeps] if sweeps else list(origin.folders(layout.SWEEPS))
        if not chosen:
            raise InputError(
                f"there is no sweep in {origin.uri}. `agr list --storage {origin.uri}` lists what there is."
            )
        prove_storage(target_storage)
        copies = []
        for sweep_id in chosen:
            copied = copy_sweep(sweep_id, origin, target_storage)
            copies.append(copied)
            unchanged = f", {copied.unchanged} were already there" if copied.unchanged else ""
            say(f"{sweep_id}: {copied.objects} objects copied, {copied.size / 1e6:.1f} MB{unchanged}")
        if as_json:
            print_json({"from": origin.uri, "to": target_storage.uri, "sweeps": [asdict(copied) for copied in copies]})
        else:
            typer.echo(f"{len(copies)} sweeps are in {target_storage.uri}. For MLflow: agr sync {target_storage.uri}")


def _print_findings(findings: list[Finding]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("need", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("ms", justify="right", no_wrap=True)
    table.add_column("observed", overflow="fold")
    for finding in findings:
        style = "green" if finding.ok else "red"
        table.add_row(finding.need, "ok" if finding.ok else "no", f"{finding.ms:.0f}", finding.observed, style=style)
    console().print(table)
