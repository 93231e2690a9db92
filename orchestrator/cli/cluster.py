"""``agr cluster``: Ray on rented machines."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import JsonOption, console, errors_in_one_line, print_json, say

if TYPE_CHECKING:
    from orchestrator.cluster.gcs import Node
    from orchestrator.cluster.node import NodeOptions, Started

commands = typer.Typer(
    help="Ray on rented machines: one is the head, the others join it. Always with a token.", no_args_is_help=True
)

HostOption = Annotated[
    str | None,
    typer.Option(
        "--host", metavar="ADDRESS", help="Address of this machine that the other nodes reach. Default: its own."
    ),
]
PortOption = Annotated[
    int,
    typer.Option("--port", min=1024, max=30000, help="First port; a head is joined by it. The others follow from it."),
]
CpusOption = Annotated[int | None, typer.Option("--cpus", min=0, help="Cores for trials; default: all.")]
GpusOption = Annotated[int | None, typer.Option("--gpus", min=0, help="GPUs for trials; default: all.")]
UsdOption = Annotated[float | None, typer.Option("--usd-per-hour", min=0, help="What this machine costs.")]
WarmOption = Annotated[
    int | None,
    typer.Option(
        "--warm",
        min=0,
        metavar="N",
        help="Workers that wait for trials, so that these begin at once; each takes 120 MB. Default: one for each "
        "core, in at most a tenth of the memory.",
    ),
]
ProviderOption = Annotated[str | None, typer.Option("--provider", help="Whose machine it is, such as vast.ai.")]


def register(app: typer.Typer) -> None:
    """Add ``agr cluster`` and its commands."""
    app.add_typer(commands, name="cluster")


@commands.command()
def head(
    host: HostOption = None,
    port: PortOption = 6379,
    cpus: CpusOption = None,
    gpus: GpusOption = None,
    usd_per_hour: UsdOption = None,
    provider: ProviderOption = None,
    warm: WarmOption = None,
) -> None:
    """Start a cluster: this machine is its head, and its first node.

    Drivers and workers have the environment of this command: set AGR_STORAGE, MLFLOW_TRACKING_URI and AWS_* first.
    """
    with errors_in_one_line():
        from orchestrator.cluster.node import dashboard_url, start_head
        from orchestrator.cluster.token import find_token
        from orchestrator.settings import Settings

        options = _options(host, port, cpus, gpus, usd_per_hour, provider, warm)
        started = start_head(options, Settings.from_environment())
        typer.echo(f"join     agr cluster join {started.address}")
        typer.echo(f"submit   agr submit FILE --address {dashboard_url(started)} --detach")
        typer.echo(f"token    {find_token().where} (`agr cluster token` prints it; every node and your laptop need it)")
        _print_node(started)


@commands.command()
def join(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="Of the head.")],
    host: HostOption = None,
    port: PortOption = 6379,
    cpus: CpusOption = None,
    gpus: GpusOption = None,
    usd_per_hour: UsdOption = None,
    provider: ProviderOption = None,
    warm: WarmOption = None,
) -> None:
    """Make this machine a node. Refused within 10 s when the head could not reach it, or versions differ.

    Workers have the environment of this command: set AWS_* first. Example: agr cluster join 10.0.0.1:6379
    """
    with errors_in_one_line():
        from orchestrator.cluster.node import join as join_cluster
        from orchestrator.settings import Settings

        options = _options(host, port, cpus, gpus, usd_per_hour, provider, warm)
        started = join_cluster(address, options, Settings.from_environment())
        typer.echo(f"joined   {started.address} as {started.host}; `agr cluster leave` drains it")
        _print_node(started)


@commands.command()
def status(
    address: Annotated[
        str | None,
        typer.Option("--address", metavar="HOST:PORT", help="Default: RAY_ADDRESS, else this machine's cluster."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the nodes, what they have, how busy they are, and what they cost."""
    with errors_in_one_line():
        from orchestrator.cluster.gcs import Gcs
        from orchestrator.cluster.status import summarise

        gcs = Gcs(_address(address))
        nodes = gcs.nodes()
        summary = summarise(gcs.address, nodes)
        if as_json:
            print_json(asdict(summary))
            return
        _print_nodes([node for node in nodes if node.alive])
        typer.echo(summary.line())


@commands.command()
def leave(
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds to wait for running trials to move.")
    ] = 600,
    force: Annotated[
        bool, typer.Option("--force", help="Without draining; a head: with all other nodes there.")
    ] = False,
) -> None:
    """Take this machine out of its cluster: it gets no new trials, its trials move with their checkpoints, Ray ends."""
    with errors_in_one_line():
        from orchestrator.cluster.node import leave as leave_cluster
        from orchestrator.settings import Settings

        leave_cluster(Settings.from_environment(), deadline_s=timeout, force=force, say=say)
        say("left")


@commands.command()
def token() -> None:
    """Print the cluster's token. Whoever has it may run anything on the nodes."""
    with errors_in_one_line():
        from orchestrator.cluster.token import reveal

        typer.echo(reveal())


def _options(
    host: str | None,
    port: int,
    cpus: int | None,
    gpus: int | None,
    usd_per_hour: float | None,
    provider: str | None,
    warm: int | None,
) -> NodeOptions:
    from orchestrator.cluster.node import NodeOptions

    return NodeOptions(
        host=host, port=port, cpus=cpus, gpus=gpus, usd_per_hour=usd_per_hour, provider=provider, warm=warm
    )


def _address(given: str | None) -> str:
    from agr_core.errors import InputError
    from orchestrator.cluster.node import this_node
    from orchestrator.settings import Settings

    settings = Settings.from_environment()
    node = this_node(settings)
    found = given or settings.ray_address or (None if node is None else node.address)
    if found is None:
        raise InputError("this machine is no node of a cluster; give the head's address: --address HOST:PORT.")
    return found


def _print_node(started: Started) -> None:
    from orchestrator.cluster.ports import Ports
    from orchestrator.ray_tune.warm import WORKER_BYTES

    size = started.warm * WORKER_BYTES / 1e9
    typer.echo(f"workers  {started.warm} waiting for trials, {size:.1f} GB (--warm)")
    for number, rule in enumerate(Ports(started.port).rules(started.host, head=started.is_head)):
        typer.echo(f"{'' if number else 'firewall':<8} {rule}")


def _print_nodes(nodes: list[Node]) -> None:
    from rich import box
    from rich.table import Table

    from orchestrator.cluster.labels import GPU, PROVIDER, usd_per_hour

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("node", "name", "state", "CPUs", "GPUs", "busy", "provider", "$/h"):
        table.add_column(title, no_wrap=True)
    for node in nodes:
        price = usd_per_hour(node.labels)
        state = "draining" if node.draining else "head" if node.is_head else "up"
        gpus = f"{node.total.get('GPU', 0):g} {node.labels.get(GPU, '')}".strip()
        cells: list[Any] = [
            node.host,
            node.name,
            state,
            f"{node.total.get('CPU', 0):g}",
            gpus,
            f"{node.busy_share():.0%}",
        ]
        table.add_row(*cells, node.labels.get(PROVIDER, ""), "" if price is None else f"{price:g}")
    console().print(table)
