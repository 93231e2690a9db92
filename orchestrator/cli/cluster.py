"""``agr cluster``: a Ray cluster on rented machines."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import JsonOption, console, errors_in_one_line, print_json, say

if TYPE_CHECKING:
    from orchestrator.cluster.gcs import Node
    from orchestrator.cluster.idle import IdleRule
    from orchestrator.cluster.node import NodeOptions, Started

commands = typer.Typer(
    help="Run a Ray cluster on rented machines: one head, joined by other nodes; access needs a token.",
    no_args_is_help=True,
)

HostOption = Annotated[
    str | None,
    typer.Option(
        "--host", metavar="ADDRESS", help="Address at which other nodes reach this machine; default: detected."
    ),
]
PortOption = Annotated[
    int,
    typer.Option(
        "--port", min=1024, max=30000, help="First port, by which nodes join a head; the other ports follow from it."
    ),
]
CpusOption = Annotated[int | None, typer.Option("--cpus", min=0, help="Cores for trials; default: all.")]
GpusOption = Annotated[int | None, typer.Option("--gpus", min=0, help="GPUs for trials; default: all.")]
UsdOption = Annotated[
    float | None, typer.Option("--usd-per-hour", min=0, help="Price of this machine, dollars an hour.")
]
WarmOption = Annotated[
    int | None,
    typer.Option(
        "--warm",
        min=0,
        metavar="N",
        help="Number of idle workers kept ready, so that trials start at once; 120 MB each. Default: one per core, "
        "in at most a tenth of the memory.",
    ),
]
ProviderOption = Annotated[str | None, typer.Option("--provider", help="Provider of this machine, such as vast.ai.")]


IdleOption = Annotated[
    str | None,
    typer.Option("--idle", metavar="20m", help="Leave the cluster after this time without a trial on this machine."),
]
OnIdleOption = Annotated[
    str | None,
    typer.Option(
        "--on-idle", metavar="COMMAND", help="Shell command to run after the node has left because of --idle."
    ),
]
OnEndOption = Annotated[
    str | None,
    typer.Option(
        "--on-end", metavar="COMMAND", help="Leave once every sweep run since has ended, and run this shell command."
    ),
]


def register(app: typer.Typer) -> None:
    """Add ``agr cluster`` and its commands to ``app``."""
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
    idle: IdleOption = None,
    on_idle: OnIdleOption = None,
    on_end: OnEndOption = None,
) -> None:
    """Start a cluster with this machine as its head and first node.

    Drivers and workers inherit this command's environment: set AGR_STORAGE, MLFLOW_TRACKING_URI and AWS_* first.

    Example: agr cluster head --usd-per-hour 0.4
    """
    with errors_in_one_line():
        from orchestrator.cluster.node import dashboard_url, start_head
        from orchestrator.cluster.token import find_token
        from orchestrator.settings import Settings

        rule = _idle_rule(idle, on_idle, on_end)
        options = _options(host, port, cpus, gpus, usd_per_hour, provider, warm)
        started = start_head(options, Settings.from_environment())
        typer.echo(f"join     agr cluster join {started.address}")
        typer.echo(f"submit   agr submit FILE --address {dashboard_url(started)} --detach")
        typer.echo(f"token    {find_token().where} (`agr cluster token` prints it; every node and your laptop need it)")
        _print_node(started)
        _watch(rule)


@commands.command()
def join(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="Address of the head.")],
    host: HostOption = None,
    port: PortOption = 6379,
    cpus: CpusOption = None,
    gpus: GpusOption = None,
    usd_per_hour: UsdOption = None,
    provider: ProviderOption = None,
    warm: WarmOption = None,
    idle: IdleOption = None,
    on_idle: OnIdleOption = None,
    on_end: OnEndOption = None,
) -> None:
    """Join this machine to a cluster; fails within 10 s if the head cannot reach it or versions differ.

    Workers inherit this command's environment: set AWS_* first. Example: agr cluster join 10.0.0.1:6379
    """
    with errors_in_one_line():
        from orchestrator.cluster.node import join as join_cluster
        from orchestrator.settings import Settings

        rule = _idle_rule(idle, on_idle, on_end)
        options = _options(host, port, cpus, gpus, usd_per_hour, provider, warm)
        started = join_cluster(address, options, Settings.from_environment())
        typer.echo(f"joined   {started.address} as {started.host}; `agr cluster leave` drains it")
        _print_node(started)
        _watch(rule)


@commands.command()
def status(
    address: Annotated[
        str | None,
        typer.Option("--address", metavar="HOST:PORT", help="Default: RAY_ADDRESS, else this machine's cluster."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the nodes with their resources, load and price.

    Example: agr cluster status --address 10.0.0.1:6379
    """
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
        float, typer.Option("--timeout", min=1, help="Longest wait for running trials to move, in seconds.")
    ] = 600,
    force: Annotated[
        bool, typer.Option("--force", help="Do not drain; on a head: leave even though other nodes are connected.")
    ] = False,
) -> None:
    """Remove this machine from its cluster: drain it, move its trials with their checkpoints, and stop Ray.

    Example: agr cluster leave --timeout 60
    """
    with errors_in_one_line():
        from orchestrator.cluster.node import leave as leave_cluster
        from orchestrator.settings import Settings

        leave_cluster(Settings.from_environment(), deadline_s=timeout, force=force, say=say)
        say("left")


@commands.command()
def token() -> None:
    """Print the cluster's token; it grants the right to run any code on the nodes.

    Example: agr cluster token > ~/.ray/auth_token
    """
    with errors_in_one_line():
        from orchestrator.cluster.token import reveal

        typer.echo(reveal())


@commands.command(hidden=True)
def watch() -> None:
    """Watch this machine's node and leave the cluster when it is idle; `agr cluster head` and `join` start this.

    Example: agr cluster watch
    """
    with errors_in_one_line():
        from orchestrator.cluster.idle import watch as watch_node
        from orchestrator.settings import Settings

        watch_node(Settings.from_environment(), say=say)


def _idle_rule(idle: str | None, on_idle: str | None, on_end: str | None) -> IdleRule:
    from agr_core.errors import InputError
    from orchestrator.cluster.idle import IdleRule
    from orchestrator.spec.model import seconds

    try:
        rule = IdleRule(idle_s=None if idle is None else seconds(idle), on_idle=on_idle, on_end=on_end)
    except ValueError as error:
        raise InputError(f"--idle: {error}") from error
    rule.check()
    return rule


def _watch(rule: IdleRule) -> None:
    from orchestrator.cluster.idle import start_watcher
    from orchestrator.settings import Settings

    if rule.idle_s is None and rule.on_end is None:
        return
    start_watcher(rule, Settings.from_environment())
    when = [] if rule.idle_s is None else [f"after {rule.idle_s:g} s without a trial"]
    when += [] if rule.on_end is None else ["when every sweep that ran here has ended"]
    typer.echo(f"leaves   {', or '.join(when)}")


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
    chosen = given or settings.ray_address or (None if node is None else node.address)
    if chosen is None:
        raise InputError("this machine is not a node of a cluster; give the head's address: --address HOST:PORT.")
    return chosen


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
