"""The manifest of a packed data set: what it must say before anything in it is believed.

Manifests come from buckets that others write to. A digest becomes the name of a folder of the node's cache, and a
shard's name that of a file in it, so neither may lead anywhere else.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    """Further fields may follow: a manifest of a later version of the same schema has them."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class _Shard(_Part):
    file: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,190}\.parquet$")
    bytes: int = Field(ge=0)
    sha256: _Sha256


class _Skipped(_Part):
    file: str
    reason: str


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


def manifest_problem(document: dict[str, Any]) -> str | None:
    """What is wrong with a manifest of the current schema version, in one line; None if nothing is."""
    try:
        _Manifest.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    names = [shard["file"] for shard in document["shards"]]
    return None if len(set(names)) == len(names) else "shards: two have the same name"
