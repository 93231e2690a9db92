"""Plan for reading a table of labels, made before any image is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agr_core.data.readers.tabular.options import LabelOptions
from agr_core.data.readers.tabular.values import ValueRow


@dataclass(frozen=True)
class Plan:
    """Plan for reading tables of labels.

    Attributes:
        files: The tables.
        rows: Number of rows of all tables.
        columns: Column of each role, if any.
        passed_over: By role, other columns with suitable names.
        unused: Columns without a role.
        values: Interpretation of each value.
        notes: Further findings, one sentence each.
        options: Options given by the caller.
    """

    files: tuple[str, ...]
    rows: int
    columns: Mapping[str, str]
    passed_over: Mapping[str, tuple[str, ...]]
    unused: tuple[str, ...]
    values: tuple[ValueRow, ...]
    notes: tuple[str, ...]
    options: LabelOptions

    def to_manifest(self) -> dict[str, Any]:
        """Return the manifest's ``labels``, from which the same options can be restored."""
        return {
            "file": self.options.file,
            "files": list(self.files),
            "columns": {**self.columns, **{role: "" for role, column in self.options.columns.items() if not column}},
            "map": {role: dict(meanings) for role, meanings in sorted(self.options.values.items())},
            "rows": self.rows,
            "values": [
                {"role": row.role, "value": row.value, "count": row.count, "became": row.became} for row in self.values
            ],
        }
