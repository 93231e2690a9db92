"""The storage in an S3 bucket: AWS, SeaweedFS, MinIO, R2 and others that speak S3. The only importer of boto3.

Address and credentials are the environment's, read by boto3 itself: ``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``,
``AWS_SECRET_ACCESS_KEY``, ``AWS_DEFAULT_REGION`` or the AWS files.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from boto3.exceptions import RetriesExceededError
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError

from agr_core.disk import is_full
from orchestrator.errors import (
    AlreadyExistsError,
    NotFoundError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)
from orchestrator.storage.base import ObjectInfo
from orchestrator.storage.keys import check_key, check_prefix, is_key

_CONNECTIONS = 16
_CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 5},
    connect_timeout=5,
    read_timeout=60,
    max_pool_connections=2 * _CONNECTIONS,
    # Checksums beyond what S3 demands are refused by some stores; data sets carry their own sha256.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
    # Works everywhere; bucket.host needs a name service that knows each bucket.
    s3={"addressing_style": "path"},
)
_TRANSFER = TransferConfig(max_concurrency=_CONNECTIONS)
_PIECE_BYTES = 2**18
_STREAM_ATTEMPTS = 5
_CREATOR = "agr-creator"
_REFUSED = {401, 403}
_BUSY = {408, 429}
_CONFLICTS = 5
_SILENCE = (BotoConnectionError, HTTPClientError, IncompleteReadError, ConnectionError, TimeoutError)
_PROBE = ".agr-probe"


class S3Storage:
    """Each object is an object below ``bucket/prefix`` (``Storage``).

    Pickled and forked copies open connections of their own. SeaweedFS names a folder for about a minute after its last
    object was deleted, so what ``folders`` names may be empty.
    """

    def __init__(self, bucket: str, prefix: str = "") -> None:
        self.bucket = bucket
        self.prefix = check_prefix(prefix)
        self._lock = threading.Lock()
        self._opened: tuple[int, Any] | None = None

    def __reduce__(self) -> tuple[type[S3Storage], tuple[str, str]]:
        return S3Storage, (self.bucket, self.prefix)

    @property
    def uri(self) -> str:
        """``s3://bucket/prefix``."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def read(self, key: str) -> bytes:
        """The object's bytes (``Storage.read``)."""
        place = self._place(key)
        with self._errors("reading", key):
            body: bytes = self._client.get_object(**place)["Body"].read()
            return body

    def write(self, key: str, data: bytes) -> None:
        """Store ``data``, replacing what was there (``Storage.write``)."""
        place = self._place(key)
        with self._errors("writing", key):
            self._client.put_object(**place, Body=data)

    def create(self, key: str, data: bytes) -> None:
        """Store ``data`` unless something is there (``Storage.create``), by ``If-None-Match: *``."""
        place = self._place(key)
        # When the answer to our own successful put is lost, boto3 sends it again and finds the object there. The mark
        # tells whose it is.
        mark = secrets.token_hex(8)
        with self._errors("creating", key):
            for attempt in range(_CONFLICTS):
                try:
                    self._client.put_object(**place, Body=data, IfNoneMatch="*", Metadata={_CREATOR: mark})
                    return
                except ClientError as error:
                    if _code(error) == "ConditionalRequestConflict" and attempt < _CONFLICTS - 1:
                        continue  # AWS asks to send it again when a delete came between
                    if _status(error) != 412:
                        raise
                    if self._client.head_object(**place)["Metadata"].get(_CREATOR) == mark:
                        return
                    raise AlreadyExistsError(f"{self.uri}/{key} exists already.") from error

    def exists(self, key: str) -> bool:
        """Whether the object is there (``Storage.exists``)."""
        place = self._place(key)
        with self._errors("looking for", key):
            try:
                self._client.head_object(**place)
            except ClientError as error:
                if _status(error) != 404:
                    raise
                self._client.head_bucket(Bucket=self.bucket)  # the 404 may have meant the bucket
                return False
            return True

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects below the folder ``prefix``, ascending (``Storage.list``)."""
        found = []
        root = len(self._folder(""))
        for page in self._pages(prefix):
            for entry in page.get("Contents", ()):
                key = entry["Key"][root:]
                if is_key(key):
                    found.append(ObjectInfo(key, entry["Size"], entry["LastModified"].timestamp()))
        return iter(sorted(found))  # SeaweedFS lists folder by folder, which is another order

    def folders(self, prefix: str) -> tuple[str, ...]:
        """Folders directly below the folder ``prefix`` (``Storage.folders``)."""
        folder = len(self._folder(prefix))
        names = {
            entry["Prefix"][folder:].rstrip("/")
            for page in self._pages(prefix, Delimiter="/")
            for entry in page.get("CommonPrefixes", ())
        }
        return tuple(sorted(filter(is_key, names)))

    def delete(self, key: str) -> None:
        """Remove the object (``Storage.delete``)."""
        place = self._place(key)
        with self._errors("deleting", key):
            self._client.delete_object(**place)

    def upload(self, path: Path, key: str) -> None:
        """Store a file, large ones in parallel parts (``Storage.upload``)."""
        place = self._place(key)
        if not path.is_file():
            raise NotFoundError(f"there is no file {path} to upload to {key!r} in {self.uri}.")
        with self._errors("writing", key), path.open("rb") as file:
            self._client.upload_fileobj(file, **place, Config=_TRANSFER)

    def stream(self, key: str) -> Iterator[bytes]:
        """The object's bytes in one answer, or, where that breaks off, the rest in another (``Storage.stream``)."""
        place = self._place(key)
        with self._errors("reading", key):
            read, failures = 0, 0
            rest: dict[str, str] = {}
            while True:
                answer = self._client.get_object(**place, **rest)
                try:
                    while piece := answer["Body"].read(_PIECE_BYTES):
                        read, failures = read + len(piece), 0
                        yield piece
                    return
                except _SILENCE:
                    failures += 1
                    if failures == _STREAM_ATTEMPTS:
                        raise
                # Of the same object: one that was replaced meanwhile is refused (412).
                rest = {"Range": f"bytes={read}-", "IfMatch": answer["ETag"]}

    def download(self, key: str, path: Path) -> None:
        """Fetch an object into a file, large ones by parallel ranges (``Storage.download``)."""
        place = self._place(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._errors("reading", key):
            # boto3 writes beside the file, under a name of its own, and renames at the end.
            self._client.download_file(**place, Filename=str(path), Config=_TRANSFER)

    @property
    def _client(self) -> Any:
        """The S3 client of this process; its connections do not survive a fork."""
        with self._lock:
            if self._opened is None or self._opened[0] != os.getpid():
                try:
                    client = boto3.session.Session().client("s3", config=_CONFIG)
                except ValueError as error:  # boto3's own text quotes the address, which may hold a password
                    raise StorageError(
                        "AWS_ENDPOINT_URL is no address: write http://host:port or https://host."
                    ) from error
                self._opened = (os.getpid(), client)
            return self._opened[1]

    def _place(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self._folder("") + check_key(key)}

    def _folder(self, prefix: str) -> str:
        return "".join(f"{part}/" for part in (self.prefix, check_prefix(prefix)) if part)

    def _pages(self, prefix: str, **options: str) -> Iterator[dict[str, Any]]:
        folder = self._folder(prefix)
        with self._errors("listing", prefix):
            paginator = self._client.get_paginator("list_objects_v2")
            yield from paginator.paginate(Bucket=self.bucket, Prefix=folder, **options)

    @contextmanager
    def _errors(self, operation: str, key: str) -> Iterator[None]:
        """Our errors for boto3's. Texts of the store are left out where they may quote a credential."""
        try:
            yield
        except RetriesExceededError as error:  # of download: boto3 has tried each range several times
            raise self._refusal(operation, key, error.last_exception) from error
        except (ClientError, BotoCoreError, OSError) as error:
            raise self._refusal(operation, key, error) from error

    def _refusal(self, operation: str, key: str, error: Exception) -> Exception:
        what = f"{operation} {key!r} in {self.uri} failed: "
        if isinstance(error, ClientError):
            return self._answer(what, key, error)
        if isinstance(error, NoCredentialsError | PartialCredentialsError):
            return StorageError(
                f"{what}there are no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY "
                '(for the local stack: eval "$(agr stack env)"), or use the AWS files.'
            )
        if isinstance(error, _SILENCE):
            return StorageUnavailableError(
                f"{what}{self._endpoint} does not answer ({type(error).__name__}). Check AWS_ENDPOINT_URL and that "
                "the store runs (`agr stack status`)."
            )
        if isinstance(error, OSError):
            kind, way_out = (
                (StorageFullError, "The disk of this machine is full: free some of it.")
                if is_full(error)
                else (StorageError, "Check the disk of this machine.")
            )
            return kind(f"{what}{error.strerror or error} ({error.filename}). {way_out}")
        return StorageError(f"{what}{error}. Check the AWS_* settings.")

    def _answer(self, what: str, key: str, error: ClientError) -> Exception:
        code, status = _code(error), _status(error)
        if code == "NoSuchBucket" or (status == 404 and error.operation_name == "HeadBucket"):
            return StorageError(
                f"{what}there is no bucket {self.bucket!r} at {self._endpoint}. Create it, or correct the address."
            )
        if status == 404:
            return NotFoundError(f"there is no object {key!r} in {self.uri} (at {self._endpoint}).")
        if status in _REFUSED:
            return StorageError(
                f"{what}{self._endpoint} refuses the credentials ({code}). Check AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, what they may do, and this machine's clock."
            )
        detail = error.response.get("Error", {}).get("Message", "")
        kind = StorageUnavailableError if status >= 500 or status in _BUSY else StorageError
        return kind(f"{what}{self._endpoint} answered {status} {code}: {detail} Try again later.")

    @property
    def _endpoint(self) -> str:
        url = urlsplit(str(self._client.meta.endpoint_url))
        return f"{url.scheme}://{url.netloc.rpartition('@')[2]}"


def prepare_buckets(buckets: Sequence[str], endpoint: str, access_key: str, secret_key: str, *, region: str) -> None:
    """List the buckets of a store whose address is not (yet) in the environment; make ``buckets`` and write to each.

    Nothing is retried: who waits for a store that is starting asks again.

    Raises:
        StorageError: If the store does not answer, or refuses any of it.
    """
    config = _CONFIG.merge(Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=10, proxies={}))
    try:
        client = boto3.session.Session(access_key, secret_key, region_name=region).client(
            "s3", endpoint_url=endpoint, config=config
        )
        known = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
        for bucket in buckets:
            if bucket not in known:
                client.create_bucket(Bucket=bucket)
            client.put_object(Bucket=bucket, Key=_PROBE, Body=b"")
            client.delete_object(Bucket=bucket, Key=_PROBE)
    except (ClientError, BotoCoreError) as error:
        raise StorageError(f"{endpoint}: {error}") from error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
