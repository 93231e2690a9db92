"""Which file a model's initial weights come from; torch is not needed to say so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agr_core.config import ModelConfig
from agr_core.errors import ConfigError, IntegrityError
from agr_core.identity import file_digest


@dataclass(frozen=True)
class WeightsFile:
    """A file of initial weights on this machine, and the SHA-256 of its bytes, by which a trial knows it."""

    path: Path
    sha256: str

    @classmethod
    def of(cls, path: Path, *, sha256: str | None = None) -> WeightsFile:
        """The file at ``path``, hashed.

        Raises:
            ConfigError: If there is none.
            IntegrityError: If its bytes do not have the digest ``sha256``.
        """
        if not path.is_file():
            raise ConfigError(f"model.weights={str(path)!r} must be none, timm, or an existing .safetensors file.")
        found = file_digest(path)
        if sha256 is not None and found != sha256:
            raise IntegrityError(
                f"model.weights: {path} has SHA-256 {found}, and {sha256} was asked for. "
                "Give the file it was meant for, or correct model.weights_sha256."
            )
        return cls(path, found)


def named_weights(model: ModelConfig) -> WeightsFile | None:
    """The file on this machine that ``model.weights`` names; None where it is none or timm's affair.

    Raises:
        ConfigError: If there is no such file, or it lies elsewhere, where only a sweep can fetch it from.
        IntegrityError: If it does not have ``model.weights_sha256``.
    """
    if model.weights in ("none", "timm"):
        return None
    if model.weights == "init":
        raise ConfigError("model.weights=init: the weights of a stage are brought by a sweep, which trains it first.")
    if model.weights.startswith(("s3://", "trial:")):
        raise ConfigError(
            f"model.weights={model.weights!r} is fetched by the driver of a sweep; without one give it as a file."
        )
    return WeightsFile.of(Path(model.weights).expanduser(), sha256=model.weights_sha256)
