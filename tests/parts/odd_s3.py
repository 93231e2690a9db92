"""In-memory S3 store that imitates the deviations of other stores: rejections, ignored requests, error texts."""

from __future__ import annotations

import hashlib
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import NamedTuple

import pytest


class Refusal(NamedTuple):
    status: int
    code: str
    message: str
    headers: Mapping[str, str] = MappingProxyType({})


REFUSALS = {
    "expired": Refusal(400, "ExpiredToken", "The provided token has expired."),
    "redirect": Refusal(301, "PermanentRedirect", "Use the specified endpoint.", {"x-amz-bucket-region": "eu-west-1"}),
    "region": Refusal(400, "AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong; expecting 'auto'"),
    "skew": Refusal(
        403, "RequestTimeTooSkewed", "The difference is too large.", {"Date": "Tue, 01 Jan 2019 00:00:00 GMT"}
    ),
    "virtual-host": Refusal(403, "SecondLevelDomainForbidden", "Please use virtual hosted style to access."),
    "denied": Refusal(403, "AccessDenied", "Access Denied"),
    "full": Refusal(507, "XMinioStorageFull", "Storage backend has reached its minimum free drive threshold."),
}
"""Answers to every request, by manner."""

MANNERS = {*REFUSALS, "", "conditional-501", "conditional-400", "conditional-ignored", "eventual", "html", "no-list"}


class OddS3:
    """Objects of one store; ``requests`` holds method, path and query of each request."""

    def __init__(self, manner: str) -> None:
        assert manner in MANNERS
        self.manner = manner
        self.objects: dict[str, tuple[bytes, float, dict[str, str]]] = {}
        self.parts: dict[int, bytes] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.hosts: set[str] = set()
        self.lock = threading.Lock()


def _error(code: str, message: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: OddS3

    def log_message(self, *args: object) -> None:
        pass

    def _send(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, length: int = -1) -> None:
        self.send_response_only(status)
        for name, value in (
            {"Date": formatdate(usegmt=True), "Content-Type": "application/xml"} | dict(headers or {})
        ).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body) if length < 0 else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _answer(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        key = urllib.parse.unquote(url.path).lstrip("/").partition("/")[2]
        store = self.store
        store.requests.append((self.command, url.path, url.query))
        store.hosts.add(self.headers["Host"])
        with store.lock:
            if store.manner in REFUSALS:
                refusal = REFUSALS[store.manner]
                return self._send(refusal.status, _error(refusal.code, refusal.message), refusal.headers)
            if store.manner == "html":
                return self._send(
                    200, b"<html><body><p>Sign in to the network</body></html>", {"Content-Type": "text/html"}
                )
            if self.command in ("PUT", "POST"):
                return self._put(key, query, data)
            if self.command == "DELETE":
                store.objects.pop(key, None)
                return self._send(204)
            return self._list(query) if not key else self._get(key)

    def _put(self, key: str, query: dict[str, str], data: bytes) -> None:
        store = self.store
        etag = {"ETag": f'"{hashlib.md5(data).hexdigest()}"'}
        if self.headers.get("If-None-Match"):
            if store.manner == "conditional-501":
                return self._send(501, _error("NotImplemented", "A header implies functionality not implemented."))
            if store.manner == "conditional-400":
                return self._send(400, _error("InvalidArgument", "Unsupported header If-None-Match"))
            if store.manner != "conditional-ignored" and key in store.objects:
                return self._send(412, _error("PreconditionFailed", "x"))
        if "uploads" in query:
            store.parts.clear()
            body = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
            return self._send(200, body)
        if "partNumber" in query:
            store.parts[int(query["partNumber"])] = data
            return self._send(200, headers=etag)
        if self.command == "POST":
            data = b"".join(part for _, part in sorted(store.parts.items()))
        metadata = {name: value for name, value in self.headers.items() if name.lower().startswith("x-amz-meta-")}
        store.objects[key] = data, time.time(), metadata
        return self._send(200, b"<r/>" if self.command == "POST" else b"", etag)

    def _list(self, query: dict[str, str]) -> None:
        store = self.store
        if store.manner == "no-list":
            return self._send(403, _error("AccessDenied", "Access Denied"))
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        contents, folders = "", set()
        for key, (data, modified, _) in sorted(store.objects.items()):
            rest = key.removeprefix(prefix)
            if not key.startswith(prefix) or store.manner == "eventual":
                continue
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.split(delimiter)[0] + delimiter)
                continue
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(modified))
            contents += (
                f"<Contents><Key>{urllib.parse.quote(key)}</Key><Size>{len(data)}</Size>"
                f"<LastModified>{stamp}</LastModified></Contents>"
            )
        listed = "".join(f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>" for folder in sorted(folders))
        body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}{listed}</ListBucketResult>"
        return self._send(200, body.encode())

    def _get(self, key: str) -> None:
        if key not in self.store.objects:
            return self._send(404, _error("NoSuchKey", "The specified key does not exist."))
        data, modified, metadata = self.store.objects[key]
        headers = {"ETag": f'"{hashlib.md5(data).hexdigest()}"', "Last-Modified": formatdate(modified, usegmt=True)}
        status, length = 200, len(data)
        if asked := self.headers.get("Range"):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            end = min(int(last) if last else length - 1, length - 1)
            headers["Content-Range"] = f"bytes {first}-{end}/{length}"
            status, data = 206, data[int(first) : end + 1]
        return self._send(status, data, headers | metadata, length=len(data))

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer  # noqa: N815


@contextmanager
def running(manner: str) -> Iterator[tuple[OddS3, str]]:
    """Run a store with the given deviation; yield it and its endpoint."""
    store = OddS3(manner)
    handler = type("Handler", (_Handler,), {"store": store})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield store, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def odd_s3(clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], OddS3]]:
    """Start a store with a given deviation and point this test's environment at it."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(manner: str) -> OddS3:
            store, endpoint = stack.enter_context(running(manner))
            monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
            monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            return store

        yield start
