"""Detect lost nodes."""

from __future__ import annotations

import socket

import ray

_ANSWER_S = 2.0
"""Longest time in which a node accepts a connection, in seconds; afterwards it counts as gone."""


def is_lost(node_id: str) -> bool:
    """Return whether a node has left the cluster, or does not answer; False if its ID is unknown.

    Ray takes up to half a minute to declare a node dead whose machine is gone, and its trials fail before that. So this
    contacts its raylet: a killed one refuses the connection, an unreachable one does not accept it.
    """
    rows = {node["NodeID"]: node for node in ray.nodes()}
    if node_id not in rows:
        return False
    node = rows[node_id]
    if not node["Alive"]:
        return True
    try:
        address = (node["NodeManagerAddress"], node["NodeManagerPort"])
        socket.create_connection(address, timeout=_ANSWER_S).close()
    except OSError:
        return True
    return False
