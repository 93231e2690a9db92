"""Web application of ``agr board``: the page, its figures as JSON, and server-sent events for updates."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse

from agr_core.errors import AgrError
from orchestrator.board.follower import POLL_S, Follower
from orchestrator.report.page import page_html

HOST = "127.0.0.1"
"""The only address it listens on, because there is no login."""

_SILENCE_S = 15.0
"""Longest time between messages to a client, in seconds; a message detects a closed connection."""

_CLOSING_S = 1


def build_app(follower: Follower, *, title: str) -> FastAPI:
    """Build the application; ``title`` is shown until the first figures arrive."""
    page = page_html(None, title=title, live=True)
    # FastAPI's documentation pages load scripts from other hosts, so they are disabled.
    app = FastAPI(title="agr board", docs_url=None, redoc_url=None, openapi_url=None)
    # Rejects DNS rebinding: a foreign page whose host name resolves to this machine cannot read the board.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])

    @app.middleware("http")
    async def refuse_foreign_pages(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        origin = request.headers.get("origin")
        if origin is not None and origin != f"http://{request.headers.get('host')}":
            return PlainTextResponse(f"{origin} may not read this board.", 403)
        return await answer(request)

    @app.get("/", response_class=HTMLResponse)
    def show_page() -> str:
        return page

    @app.get("/figures")
    def show_figures() -> Response:
        return Response(follower.drawn().text, media_type="application/json")

    @app.get("/events")
    def follow() -> StreamingResponse:
        headers = {"Cache-Control": "no-store"}
        return StreamingResponse(events(follower), media_type="text/event-stream", headers=headers)

    return app


async def events(follower: Follower) -> AsyncIterator[str]:
    """Yield server-sent events forever: ``figures`` for each new document, ``problem`` for each new error."""
    version, problem, silent_s = 0, "", 0.0
    while True:
        try:
            drawn = await run_in_threadpool(follower.drawn)
        except AgrError as error:
            if str(error) != problem:
                problem = str(error)
                yield f"event: problem\ndata: {json.dumps(problem)}\n\n"
        else:
            if drawn.version != version or problem:
                version, problem, silent_s = drawn.version, "", 0.0
                yield f"event: figures\ndata: {drawn.text}\n\n"
        if silent_s >= _SILENCE_S:
            silent_s = 0.0
            yield ": still here\n\n"
        await asyncio.sleep(POLL_S)
        silent_s += POLL_S


def server_of(app: FastAPI) -> uvicorn.Server:
    """Return a server that runs until ``should_exit`` and then closes open event streams."""
    return uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=_CLOSING_S)
    )
