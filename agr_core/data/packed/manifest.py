"""Validation of the manifest of a packed data set.

Manifests are untrusted: they come from buckets that others write to. A digest becomes the name of a folder in the
node's cache, and a shard's name the name of a file in it, so neither may contain a path.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    """Base that allows further fields, as written by later versions of the same schema."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class _Shard(_Part):
    file: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,190}\.parquet$")
    bytes: int = Field(ge=0)
    sha256: _Sha256


class _Skipped(_Part):
    file: str
    reason: str


class _Crop(_Part):
    """Crop settings (``FaceCropper.manifest``)."""

    detector: str
    version: str
    margin: float
    size: int | None


class _Manifest(_Part):
    kind: str
    digest: _Sha256
    rows: int = Field(ge=0)
    label_kind: Literal["exact", "range"]
    genders: list[str]
    races: list[str]
    attributes: list[str] = Field(default_factory=list)
    shards: list[_Shard] = Field(min_length=1)
    skipped: list[_Skipped]
    crop: _Crop | None = None


def manifest_problem(document: dict[str, Any]) -> str | None:
    """Return the first problem of a manifest of the current schema version as one line; None if valid."""
    try:
        _Manifest.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    names = [shard["file"] for shard in document["shards"]]
    return None if len(set(names)) == len(names) else "shards: two have the same name"
