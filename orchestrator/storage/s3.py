"""Storage in an S3 bucket (AWS, SeaweedFS, MinIO, R2, ...). The only importer of boto3.

boto3 reads address and credentials from the environment: ``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``,
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

import boto3
from boto3.exceptions import RetriesExceededError
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError

from orchestrator.errors import AlreadyExistsError, NotFoundError, StorageError
from orchestrator.storage.base import ObjectInfo
from orchestrator.storage.keys import check_key, check_prefix, is_key
from orchestrator.storage.s3_client import CONNECTIONS, open_client, probing_config, without_login
from orchestrator.storage.s3_errors import (
    FAILURES,
    SILENCE,
    Target,
    code_of,
    is_without_reason,
    refusal,
    status_of,
)

_TRANSFER = TransferConfig(max_concurrency=CONNECTIONS)
_PIECE_BYTES = 2**18
_STREAM_ATTEMPTS = 5
_CREATOR = "agr-creator"
_CONFLICTS = 5
_PROBE = ".agr-probe"


class S3Storage:
    """Objects below ``bucket/prefix`` (``Storage``).

    Pickled and forked copies open connections of their own. SeaweedFS lists a folder for about a minute after its last
    object was deleted, so a folder of ``folders`` may be empty.
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
        """Return the object's bytes (``Storage.read``)."""
        location = self._place(key)
        with self._errors("reading", key):
            body: bytes = self._client.get_object(**location)["Body"].read()
            return body

    def write(self, key: str, data: bytes) -> None:
        """Store ``data``, replacing an existing object (``Storage.write``)."""
        location = self._place(key)
        with self._errors("writing", key):
            self._client.put_object(**location, Body=data)

    def create(self, key: str, data: bytes) -> None:
        """Store ``data`` unless the object exists (``Storage.create``), by ``If-None-Match: *``."""
        location = self._place(key)
        # If the response to our own successful put is lost, boto3 sends it again and finds the object. The mark
        # tells whether the object is ours.
        mark = secrets.token_hex(8)
        with self._errors("creating", key):
            for attempt in range(_CONFLICTS):
                try:
                    self._client.put_object(**location, Body=data, IfNoneMatch="*", Metadata={_CREATOR: mark})
                    return
                except ClientError as error:
                    if code_of(error) == "ConditionalRequestConflict" and attempt < _CONFLICTS - 1:
                        continue  # AWS requires a retry if a delete came between
                    if status_of(error) != 412:
                        raise
                    if self._client.head_object(**location)["Metadata"].get(_CREATOR) == mark:
                        return
                    raise AlreadyExistsError(f"{self.uri}/{key} already exists.") from error

    def exists(self, key: str) -> bool:
        """Return whether the object exists (``Storage.exists``)."""
        location = self._place(key)
        with self._errors("looking for", key):
            try:
                self._client.head_object(**location)
            except ClientError as error:
                if status_of(error) != 404:
                    raise
                self._client.head_bucket(Bucket=self.bucket)  # the 404 may be about the bucket
                return False
            return True

    def info(self, key: str) -> ObjectInfo:
        """Return an object's size and time of last write (``Storage.info``)."""
        location = self._place(key)
        with self._errors("looking for", key):
            head = self._client.head_object(**location)
        return ObjectInfo(key, head["ContentLength"], head["LastModified"].timestamp())

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects below the folder ``prefix``, ascending (``Storage.list``)."""
        objects = []
        root = len(self._folder(""))
        for page in self._pages(prefix):
            for entry in page.get("Contents", ()):
                key = entry["Key"][root:]
                if is_key(key):
                    objects.append(ObjectInfo(key, entry["Size"], entry["LastModified"].timestamp()))
        return iter(sorted(objects))  # SeaweedFS lists folder by folder, in another order

    def folders(self, prefix: str) -> tuple[str, ...]:
        """Return the folders directly below the folder ``prefix`` (``Storage.folders``)."""
        folder = len(self._folder(prefix))
        names = {
            entry["Prefix"][folder:].rstrip("/")
            for page in self._pages(prefix, Delimiter="/")
            for entry in page.get("CommonPrefixes", ())
        }
        return tuple(sorted(filter(is_key, names)))

    def delete(self, key: str) -> None:
        """Delete the object (``Storage.delete``)."""
        location = self._place(key)
        with self._errors("deleting", key):
            self._client.delete_object(**location)

    def upload(self, path: Path, key: str) -> None:
        """Store a file, large ones in parallel parts (``Storage.upload``)."""
        location = self._place(key)
        if not path.is_file():
            raise NotFoundError(f"there is no file {path} to upload to {key!r} in {self.uri}.")
        with self._errors("writing", key), path.open("rb") as file:
            self._client.upload_fileobj(file, **location, Config=_TRANSFER)

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield the object's bytes from one response, or from several if the connection breaks (``Storage.stream``)."""
        location = self._place(key)
        with self._errors("reading", key):
            read, failures = 0, 0
            rest: dict[str, str] = {}
            while True:
                answer = self._client.get_object(**location, **rest)
                try:
                    while piece := answer["Body"].read(_PIECE_BYTES):
                        read, failures = read + len(piece), 0
                        yield piece
                    return
                except SILENCE:
                    failures += 1
                    if failures == _STREAM_ATTEMPTS:
                        raise
                # If the object was replaced meanwhile, the store refuses the request (412).
                rest = {"Range": f"bytes={read}-", "IfMatch": answer["ETag"]}

    def download(self, key: str, path: Path) -> None:
        """Fetch an object into a file, large ones by parallel ranges (``Storage.download``)."""
        location = self._place(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._errors("reading", key):
            # boto3 writes beside the file, under a name of its own, and renames at the end.
            self._client.download_file(**location, Filename=str(path), Config=_TRANSFER)

    @property
    def _client(self) -> Any:
        """The S3 client of this process; its connections do not survive a fork."""
        with self._lock:
            if self._opened is None or self._opened[0] != os.getpid():
                self._opened = (os.getpid(), open_client(self.bucket))
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
        """Raise our errors for boto3's."""
        try:
            yield
        except RetriesExceededError as error:  # of download: boto3 has tried each range several times
            raise self._refusal(operation, key, error.last_exception) from error
        except FAILURES as error:
            raise self._refusal(operation, key, error) from error

    def _refusal(self, operation: str, key: str, error: Exception) -> Exception:
        if is_without_reason(error):
            error = self._reason(key, error)
        return refusal(operation, key, error, Target(self.uri, self.bucket, self._endpoint))

    @property
    def _endpoint(self) -> str:
        """The store's address without a login; it needs no client, since creating one may be what failed."""
        return "the store" if self._opened is None else without_login(str(self._opened[1].meta.endpoint_url))

    def _reason(self, key: str, error: Exception) -> Exception:
        """Repeat a failed request in a form whose response may have a body; return its error, else ``error``."""
        try:
            if key:
                self._client.get_object(**self._place(key), Range="bytes=0-0")
            self._client.list_objects_v2(Bucket=self.bucket, Prefix=self._folder(""), MaxKeys=1)
        except FAILURES as told:
            return error if isinstance(told, ClientError) and status_of(told) == 404 else told
        return error


def prepare_buckets(buckets: Sequence[str], endpoint: str, access_key: str, secret_key: str, *, region: str) -> None:
    """List the buckets of a store that the environment does not name (yet); create ``buckets`` and write to each.

    Nothing is retried: a caller that waits for a starting store calls again.

    Raises:
        StorageError: If the store does not answer, or refuses any of it.
    """
    try:
        client = boto3.session.Session(access_key, secret_key, region_name=region).client(
            "s3", endpoint_url=endpoint, config=probing_config()
        )
        existing = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
        for bucket in buckets:
            if bucket not in existing:
                client.create_bucket(Bucket=bucket)
            client.put_object(Bucket=bucket, Key=_PROBE, Body=b"")
            client.delete_object(Bucket=bucket, Key=_PROBE)
    except (ClientError, BotoCoreError) as error:
        raise StorageError(f"{endpoint}: {error}") from error
