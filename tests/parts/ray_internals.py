"""Private Ray names used only by tests; those used by the project are in ``orchestrator.ray_tune.internals``."""

from __future__ import annotations

from ray._private.label_utils import validate_node_label_syntax, validate_node_labels
from ray._private.node import Node
from ray._private.parameter import RayParams
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback, WorkerHealthCheckFailedError

__all__ = [
    "Node",
    "RayParams",
    "UserExceptionWithTraceback",
    "WorkerHealthCheckFailedError",
    "validate_node_label_syntax",
    "validate_node_labels",
]
