"""Proxy between a test and its S3 store that injects faults."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

import pytest

from tests.parts.s3 import S3Server


class S3Proxy:
    """Proxy in front of the S3 server that records every request and injects faults.

    Attributes:
        server: The S3 server, at the proxy's address.
        requests: Method and path of each request, in order.
        down: Answer every request with 503; ``refused`` counts them.
        slow: Delay before each answer, in seconds.
        lose: Number of following writes to forward and then drop the connection instead of answering.
        damage: Number of following answers to object reads in which to change one byte.
        cut: Number of following answers to object reads to truncate in the middle.
        hold: File name of objects whose reads are not answered until this is "".
        stop: File name of objects whose writes are not answered until this is "".
    """

    def __init__(self, server: S3Server, port: int) -> None:
        self.server = replace(server, endpoint=f"http://127.0.0.1:{port}")
        self.target = server.endpoint.removeprefix("http://")
        self.requests: list[tuple[str, str]] = []
        self.down = False
        self.refused = 0
        self.slow = 0.0
        self.lose = self.damage = self.cut = 0
        self.hold = self.stop = ""
        self._lock = Lock()

    def reads_of(self, name: str) -> int:
        """Return the number of full or partial reads of objects of this file name."""
        return sum(method == "GET" and path.partition("?")[0].endswith(f"/{name}") for method, path in self.requests)

    def take(self, harm: str) -> bool:
        """Return whether this fault is due, and decrement its count."""
        with self._lock:
            due = getattr(self, harm) > 0
            setattr(self, harm, getattr(self, harm) - due)
            return due


def _forwarding(proxy: S3Proxy) -> type[BaseHTTPRequestHandler]:
    class Forward(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            proxy.requests.append((self.command, self.path))
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            while self.waits():
                time.sleep(0.02)
            time.sleep(proxy.slow)
            if proxy.down:
                proxy.refused += 1
                self.send_error(503)
                return
            try:
                answer, data = self.ask(body)
            except (OSError, HTTPException):  # the server is down, so the proxy is down too
                self.close_connection = True
                return
            is_object = self.command == "GET" and answer.status in (200, 206) and "list-type" not in self.path
            if self.command in ("PUT", "POST") and proxy.take("lose"):
                self.close_connection = True
                return
            if is_object and data and proxy.take("damage"):
                data[len(data) // 2] ^= 1
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "server", "date"):
                    self.send_header(name, value)
            length = answer.headers["Content-Length"] if self.command == "HEAD" else len(data)
            self.send_header("Content-Length", str(length or 0))
            self.end_headers()
            if is_object and data and proxy.take("cut"):
                del data[len(data) // 2 :]
                self.close_connection = True
            self.wfile.write(data)

        def waits(self) -> bool:
            name = {"GET": proxy.hold, "PUT": proxy.stop}.get(self.command)
            return bool(name) and self.path.endswith(f"/{name}")

        def ask(self, body: bytes) -> tuple[HTTPResponse, bytearray]:
            connection = HTTPConnection(proxy.target, timeout=30)
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():  # the host too: it is signed
                if name.lower() != "expect":
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer, bytearray(answer.read())

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Log nothing; tests read ``requests``."""

    return Forward


@contextlib.contextmanager
def _before(server: S3Server) -> Iterator[S3Proxy]:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as listener:
        proxy = S3Proxy(server, listener.server_port)
        listener.RequestHandlerClass = _forwarding(proxy)
        listener.daemon_threads = True
        thread = Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield proxy
        listener.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def proxy_before() -> Callable[[S3Server], contextlib.AbstractContextManager[S3Proxy]]:
    """Put a proxy in front of an S3 server."""
    return _before


@pytest.fixture
def s3_proxy(s3_environment: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Proxy]:
    """Return a proxy in front of the S3 server and point this test's environment at it."""
    with _before(s3_environment) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.server.endpoint)
        yield proxy
