"""References to the training data of a trial or a stage: content by digest, and where nodes fetch it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agr_core.config import StrictModel

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,199}$")]
"""An ID or digest: it becomes part of keys and file names, and journals come from buckets that others write to."""


class DataRef(StrictModel):
    """The training data of a trial or a stage: its content by digest, and where nodes fetch it.

    The packed data set of several sources is a join. Joins and splits lie in the sweep's storage under their digests.
    """

    data_uri: str = Field(description="Storage URI of the packed data set's folder, or of the join's file.")
    data_digest: Name
    split_digest: Name

    @property
    def data(self) -> DataRef:
        """The plain reference; references to equal data are equal."""
        return DataRef(data_uri=self.data_uri, data_digest=self.data_digest, split_digest=self.split_digest)


class StageRef(DataRef):
    """The training inputs of a stage, by content; its configuration is in the trial's ``init``."""

    id: str
    key: Name = Field(description="Digest of everything that determines the stage; equal stages are trained once.")
    weights_sha256: Name | None = Field(default=None, description="Initial weights of the first stage.")
