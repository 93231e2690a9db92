"""Local file of a model's initial weights; does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agr_core.config import ModelConfig
from agr_core.errors import ConfigError, IntegrityError
from agr_core.identity import file_digest


@dataclass(frozen=True)
class WeightsFile:
    """Local file of initial weights and its SHA-256, which identifies it in a trial."""

    path: Path
    sha256: str

    @classmethod
    def of(cls, path: Path, *, sha256: str | None = None) -> WeightsFile:
        """Return the file at ``path`` with its SHA-256.

        Raises:
            ConfigError: If the file does not exist.
            IntegrityError: If its SHA-256 is not ``sha256``.
        """
        if not path.is_file():
            raise ConfigError(f"model.weights={str(path)!r} must be none, timm, or an existing .safetensors file.")
        found = file_digest(path)
        if sha256 is not None and found != sha256:
            raise IntegrityError(
                f"model.weights: {path} has SHA-256 {found} instead of {sha256}. "
                "Give the intended file, or correct model.weights_sha256."
            )
        return cls(path, found)


def named_weights(model: ModelConfig) -> WeightsFile | None:
    """Return the local file that ``model.weights`` names; None for ``none`` and timm's weights.

    Raises:
        ConfigError: If the file does not exist, or is a remote address, which only a sweep can fetch.
        IntegrityError: If its SHA-256 is not ``model.weights_sha256``.
    """
    if model.weights in ("none", "timm"):
        return None
    if model.weights == "init":
        raise ConfigError(
            "model.weights=init: the weights of a stage exist only within a sweep, which trains it first."
        )
    if model.weights.startswith(("s3://", "trial:")):
        raise ConfigError(
            f"model.weights={model.weights!r} is fetched by the driver of a sweep; without one give it as a file."
        )
    return WeightsFile.of(Path(model.weights).expanduser(), sha256=model.weights_sha256)
