"""The web application of ``agr serve``: a page for people and ``POST /predict`` for programs."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.middleware.trustedhost import TrustedHostMiddleware

from agr_core.errors import InputError

if TYPE_CHECKING:
    from agr_core.predict import FileFaces

HOST = "127.0.0.1"
"""The only address it listens at: it has no login, and faces are nobody else's business."""

MAX_UPLOAD_BYTES = 20_000_000

Predict = Callable[[str, bytes, bool], "FileFaces"]
"""From name and bytes of an image file, and whether faces are to be looked for in it, to its faces; one at a time."""


class _TooLargeError(Exception):
    """More was sent than is taken."""


def build_app(predict: Predict, models: Mapping[str, Any]) -> FastAPI:
    """The application.

    Args:
        predict: What predicts; called in one of several threads.
        models: What ``GET /models`` and the page say of the models, plain JSON.
    """
    page = resources.files("orchestrator.serving").joinpath("page.html").read_text(encoding="utf-8")
    # FastAPI's own pages of documentation fetch scripts from elsewhere.
    app = FastAPI(title="agr", docs_url=None, redoc_url=None)
    # A page of somewhere else cannot talk to us under a name of its own that it points at this machine.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])

    @app.get("/", response_class=HTMLResponse)
    def show_page() -> str:
        return page

    @app.get("/models")
    def describe_models() -> dict[str, Any]:
        return dict(models)

    @app.post("/predict")
    async def predict_upload(
        request: Request,
        name: str = Query("upload", max_length=300, description="What the file is called in the answer."),
        crop: bool = Query(True, description="Look for faces; otherwise the image is one."),
    ) -> JSONResponse:
        try:
            data = await _body(request)
        except _TooLargeError:
            return JSONResponse(
                {"file": name, "faces": [], "error": f"more than {MAX_UPLOAD_BYTES:,} bytes; send a smaller file"}, 413
            )
        found = await run_in_threadpool(predict, name, data, crop)
        return JSONResponse(found.to_json(), 200 if found.error is None else 422)

    return app


async def _body(request: Request) -> bytes:
    """The bytes of an upload; what is too large is not read to its end.

    Raises:
        _TooLargeError: If there are more than ``MAX_UPLOAD_BYTES``.
    """
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_UPLOAD_BYTES:
            raise _TooLargeError
        chunks.append(chunk)
    return b"".join(chunks)


def listen(port: int) -> socket.socket:
    """A listening socket on a port of this machine, 0 for any that is free.

    Raises:
        InputError: If the port is taken.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()  # who comes before the server runs waits
    except OSError as error:
        listener.close()
        raise InputError(
            f"port {port} of {HOST} cannot be used ({error.strerror}); choose another with --port."
        ) from error
    return listener


def server_of(app: FastAPI) -> uvicorn.Server:
    """What serves the application: ``run(sockets=[listen(port)])``, until ``should_exit``."""
    return uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
