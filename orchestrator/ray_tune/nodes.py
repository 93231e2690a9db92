"""Whether a node is gone."""

from __future__ import annotations

import socket

import ray

_ANSWER_S = 2.0
"""A node that takes no connection within so long (seconds) is gone."""


def is_lost(node_id: str) -> bool:
    """Whether a node has left the cluster, or does not answer; False where its ID is not known.

    Ray takes up to half a minute to call a node dead whose machine is gone, and its trials fail before that. So its
    raylet is asked: one that was killed refuses the connection, one that is cut off does not take it.
    """
    known = {node["NodeID"]: node for node in ray.nodes()}
    if node_id not in known:
        return False
    node = known[node_id]
    if not node["Alive"]:
        return True
    try:
        address = (node["NodeManagerAddress"], node["NodeManagerPort"])
        socket.create_connection(address, timeout=_ANSWER_S).close()
    except OSError:
        return True
    return False
