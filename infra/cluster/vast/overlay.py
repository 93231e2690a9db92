"""WireGuard configurations of an overlay: machines behind NAT dial the hub, and reach each other through it.

    python infra/cluster/vast/overlay.py init FOLDER hub.example.org:51820    hub.conf; run it where a UDP port is open
    python infra/cluster/vast/overlay.py add FOLDER vast-1                    vast-1.conf, and a peer in hub.conf
    python infra/cluster/vast/overlay.py remove FOLDER vast-1

After `add` and `remove` the hub takes the new file without cutting the others off: `wg syncconf agr <(wg-quick strip
FOLDER/hub.conf)`. Each machine is given its own file alone: it holds one key pair, useless once its peer is removed.
"""

from __future__ import annotations

import argparse
import base64
import ipaddress
import os
import re
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

NETWORK = ipaddress.ip_network("10.88.0.0/24")
HUB = NETWORK[1]
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
_ENDPOINT = re.compile(r"[A-Za-z0-9.-]+:[0-9]{1,5}")

_HUB = """\
# endpoint {endpoint}
# public {public}
[Interface]
Address = {address}/24
ListenPort = {port}
PrivateKey = {private}
# Nodes reach each other through the hub, and nothing but each other.
PostUp = sysctl -q net.ipv4.ip_forward=1
PostUp = iptables -I FORWARD -i %i ! -o %i -j DROP; iptables -I FORWARD -o %i ! -i %i -j DROP
PostDown = iptables -D FORWARD -i %i ! -o %i -j DROP; iptables -D FORWARD -o %i ! -i %i -j DROP
"""
_PEER = """
# node {name}
[Peer]
PublicKey = {public}
AllowedIPs = {address}/32
"""
_NODE = """\
[Interface]
Address = {address}/24
PrivateKey = {private}
MTU = 1380

[Peer]
PublicKey = {hub}
Endpoint = {endpoint}
AllowedIPs = {network}
PersistentKeepalive = 25
"""


class OverlayError(Exception):
    """What was asked cannot be done; its text says why."""


def new_keys() -> tuple[str, str]:
    """A private key and its public one, as WireGuard writes them."""
    key = X25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return base64.b64encode(key.private_bytes_raw()).decode(), base64.b64encode(public).decode()


def init(folder: Path, endpoint: str) -> Path:
    """Make the hub's configuration.

    Raises:
        OverlayError: If there is one, or ``endpoint`` is not HOST:PORT.
    """
    if not _ENDPOINT.fullmatch(endpoint):
        raise OverlayError(f"{endpoint!r} is no HOST:PORT of the hub, as machines on the internet reach it.")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    private, public = new_keys()
    port = endpoint.rpartition(":")[2]
    _write(folder / "hub.conf", _HUB.format(endpoint=endpoint, public=public, address=HUB, port=port, private=private))
    return folder / "hub.conf"


def add(folder: Path, name: str) -> Path:
    """Make the configuration of a node, at the next free address, and let the hub know it.

    Raises:
        OverlayError: If the name is taken or none, there is no hub, or the network is full.
    """
    hub = _hub(folder)
    if not _NAME.fullmatch(name) or name == "hub":
        raise OverlayError(f"{name!r} cannot name a node: small letters, digits and -, at most 31, not `hub`.")
    taken = set(re.findall(r"^AllowedIPs = ([0-9.]+)/32$", hub, flags=re.MULTILINE))
    address = next((each for each in NETWORK.hosts() if each != HUB and str(each) not in taken), None)
    if address is None:
        raise OverlayError(f"{NETWORK} is full: remove nodes that are gone.")
    private, public = new_keys()
    said = dict(re.findall(r"^# (endpoint|public) (\S+)$", hub, flags=re.MULTILINE))
    node = _NODE.format(
        address=address, private=private, hub=said["public"], endpoint=said["endpoint"], network=NETWORK
    )
    _write(folder / f"{name}.conf", node)
    _write(folder / "hub.conf", hub + _PEER.format(name=name, public=public, address=address), over=True)
    return folder / f"{name}.conf"


def remove(folder: Path, name: str) -> None:
    """Take a node out of the hub's configuration, and delete its own.

    Raises:
        OverlayError: If the hub does not know it.
    """
    hub = _hub(folder)
    left = re.sub(rf"\n# node {re.escape(name)}\n\[Peer\]\n.*\n.*\n", "", hub)
    if left == hub:
        raise OverlayError(f"{folder}/hub.conf knows no node {name!r}.")
    _write(folder / "hub.conf", left, over=True)
    (folder / f"{name}.conf").unlink(missing_ok=True)


def _hub(folder: Path) -> str:
    try:
        return (folder / "hub.conf").read_text()
    except FileNotFoundError as error:
        raise OverlayError(f"{folder} has no hub.conf; begin with init.") from error


def _write(path: Path, text: str, *, over: bool = False) -> None:
    """Write a file of mode 600; an existing one only with ``over``."""
    target = path.with_name(f".{path.name}.new") if over else path
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if over else os.O_EXCL)
    try:
        descriptor = os.open(target, flags, 0o600)
    except FileExistsError as error:
        raise OverlayError(f"{path} exists and stays; remove the node first, or choose another name.") from error
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    target.replace(path)


def main(arguments: list[str] | None = None) -> int:
    """Run one of the three commands; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("command", choices=("init", "add", "remove"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("what", help="init: HOST:PORT of the hub; add, remove: name of the node")
    given = parser.parse_args(arguments)
    try:
        made = {"init": init, "add": add, "remove": remove}[given.command](given.folder, given.what)
    except OverlayError as error:
        sys.stderr.write(f"overlay: {error}\n")
        return 2
    if made is not None:
        sys.stdout.write(f"{made}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
