"""The web application of ``agr serve``: an HTML page for users and ``POST /predict`` for programs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import HTMLResponse, JSONResponse, Response

from orchestrator import listening

if TYPE_CHECKING:
    from agr_core.predict.model import FileFaces

HOST = "127.0.0.1"
"""The only listening address: there is no login, and pictures of faces are private."""

MAX_UPLOAD_BYTES = 20_000_000

MAX_UPLOAD_S = 60.0
"""Longest time that an upload may take, in seconds."""

MAX_CONNECTIONS = 32
"""More at a time are answered with 503; each may hold ``MAX_UPLOAD_BYTES``."""

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cache-Control": "no-store",
}
"""The page is shown in no other page, and neither faces nor answers are kept."""

Predict = Callable[[str, bytes, bool], "FileFaces"]
"""From name and bytes of an image file, and whether faces are to be looked for in it, to its faces; one at a time."""


class _TooLargeError(Exception):
    """An upload exceeds the limit."""


def build_app(predict: Predict, models: Mapping[str, Any]) -> FastAPI:
    """Build the application.

    Args:
        predict: Prediction function; called in one of several threads.
        models: Description of the models for ``GET /models`` and the page, plain JSON.
    """
    page = resources.files("orchestrator.serving").joinpath("page.html").read_text(encoding="utf-8")
    # FastAPI's own pages of documentation fetch scripts from elsewhere.
    app = FastAPI(title="agr", docs_url=None, redoc_url=None)
    # Prevents DNS rebinding: a foreign page cannot reach us by its own host name pointed at this machine.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])

    @app.middleware("http")
    async def refuse_foreign_pages(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        """Refuse requests by their Origin: a page of another origin may send a request without reading its answer."""
        origin = request.headers.get("origin")
        if origin is not None and origin != f"http://{request.headers.get('host')}":
            return JSONResponse({"error": "requests from other pages are refused"}, 403)
        response = await answer(request)
        response.headers.update(_HEADERS)
        return response

    @app.get("/", response_class=HTMLResponse)
    def show_page() -> str:
        return page

    @app.get("/models")
    def describe_models() -> dict[str, Any]:
        return dict(models)

    @app.post("/predict")
    async def predict_upload(
        request: Request,
        name: str = Query("upload", max_length=300, description="Name of the file in the answer."),
        crop: bool = Query(True, description="Detect faces; otherwise the image is one face."),
    ) -> JSONResponse:
        try:
            async with asyncio.timeout(MAX_UPLOAD_S):
                data = await _body(request)
        except TimeoutError:
            error = f"the upload took more than {MAX_UPLOAD_S:.0f} s"
            return JSONResponse({"file": name, "faces": [], "error": error}, 408)
        except _TooLargeError:
            return JSONResponse(
                {"file": name, "faces": [], "error": f"more than {MAX_UPLOAD_BYTES:,} bytes; send a smaller file"}, 413
            )
        result = await run_in_threadpool(predict, name, data, crop)
        return JSONResponse(result.to_json(), 200 if result.error is None else 422)

    return app


async def _body(request: Request) -> bytes:
    """Return the bytes of an upload; a too large one is not read to its end.

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
    """Return a listening socket on a port of this machine, 0 for any free port.

    Raises:
        InputError: If the port is taken.
    """
    return listening.listen(HOST, port)


def server_of(app: FastAPI) -> uvicorn.Server:
    """Return the server of the application: ``run(sockets=[listen(port)])``, until ``should_exit``."""
    return uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, limit_concurrency=MAX_CONNECTIONS))
