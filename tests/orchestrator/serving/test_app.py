"""The web application over real HTTP: answers, limits, and whom it talks to."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

import pytest

from agr_core.errors import InputError
from agr_core.predict.model import Face, FileFaces
from orchestrator.serving.app import HOST, MAX_CONNECTIONS, MAX_UPLOAD_BYTES, build_app, listen, server_of

FACE = Face(
    box=(1, 2, 30, 40),
    age=31.5,
    gender="female",
    race=None,
    probabilities={"gender": {"male": 0.25, "female": 0.75}},
)


@dataclass
class Served:
    """A running server, and what it was asked to predict."""

    port: int = 0
    asked: list[tuple[str, int, bool]] = field(default_factory=list)

    def predict(self, name: str, data: bytes, crop: bool) -> FileFaces:
        self.asked.append((name, len(data), crop))
        return FileFaces(name, error="not an image of a known format") if data == b"text" else FileFaces(name, (FACE,))

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=20)
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


@pytest.fixture
def served() -> Iterator[Served]:
    found = Served()
    listener = listen(0)
    found.port = listener.getsockname()[1]
    server = server_of(build_app(found.predict, {"models": []}))
    thread = Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield found
    server.should_exit = True
    thread.join(timeout=20)
    assert not thread.is_alive()


def test_an_image_is_answered_with_the_documented_json(served: Served) -> None:
    status, body = served.call("POST", "/predict?name=me.jpg&crop=false", b"bytes of an image")
    assert status == 200
    assert json.loads(body) == {
        "file": "me.jpg",
        "faces": [
            {
                "box": [1, 2, 30, 40],
                "age": 31.5,
                "gender": "female",
                "race": None,
                "probabilities": {"gender": {"male": 0.25, "female": 0.75}},
            }
        ],
    }
    served.call("POST", "/predict", b"bytes of an image")
    assert served.asked == [("me.jpg", 17, False), ("upload", 17, True)]


def test_what_is_no_image_is_refused_with_the_reason(served: Served) -> None:
    status, body = served.call("POST", "/predict", b"text")
    assert status == 422
    assert json.loads(body)["error"] == "not an image of a known format"


def test_what_is_too_large_is_not_even_looked_at(served: Served) -> None:
    status, body = served.call("POST", "/predict", b"x" * (MAX_UPLOAD_BYTES + 1))
    assert status == 413
    assert "more than 20,000,000 bytes" in json.loads(body)["error"]
    pieces = (b"x" * 1_000_000 for _ in range(21))  # of unknown length
    status, _ = served.call("POST", "/predict", pieces)
    assert status == 413
    assert served.asked == []


def test_the_page_and_the_model_are_there_and_nothing_comes_from_elsewhere(served: Served) -> None:
    status, page = served.call("GET", "/")
    assert status == 200
    assert b"<title>agr" in page
    assert b"http" not in page.replace(b"http-equiv", b"")
    assert json.loads(served.call("GET", "/models")[1]) == {"models": []}
    assert [served.call("GET", path)[0] for path in ("/docs", "/redoc")] == [404, 404]


def test_it_answers_under_this_machines_names_only(served: Served) -> None:
    assert served.call("GET", "/models", Host="localhost")[0] == 200
    assert served.call("POST", "/predict", b"x", Host="evil.example")[0] == 400
    assert served.asked == []


def test_it_listens_at_this_machine_alone_and_a_taken_port_is_refused() -> None:
    with listen(0) as listener:
        host, port = listener.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(InputError, match=f"port {port} of 127.0.0.1 cannot be used"):
            listen(port)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1"])
def test_a_page_of_another_origin_predicts_nothing(served: Served, origin: str) -> None:
    status, _ = served.call("POST", "/predict", b"image", Origin=origin)

    assert status == 403
    assert served.asked == []


def test_the_page_itself_predicts_and_is_shown_in_no_other_page(served: Served) -> None:
    status, _ = served.call("POST", "/predict", b"image", Origin=f"http://{HOST}:{served.port}")
    connection = http.client.HTTPConnection(HOST, served.port, timeout=20)
    connection.request("GET", "/")
    headers = connection.getresponse().headers

    assert status == 200
    assert headers["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_more_connections_than_the_bound_are_answered_with_503(served: Served) -> None:
    with ExitStack() as held:
        for _ in range(MAX_CONNECTIONS):
            waiting = held.enter_context(socket.create_connection((HOST, served.port), timeout=20))
            waiting.sendall(f"POST /predict HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\n".encode())
        answers = {served.call("GET", "/models")[0] for _ in range(20)}  # the first may come before all are counted

    assert 503 in answers
