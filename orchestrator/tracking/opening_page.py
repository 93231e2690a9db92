"""MLflow's web page as ``agr ui`` and the stack serve it: opened in "Model training", with the Assistant closed.

MLflow's page opens in its workflow for language models, and on the loopback address it opens its Assistant over the
table. It keeps both choices in the browser's ``localStorage``, for each address anew. The page served here makes them
before MLflow's script starts, unless the browser has made them already. The names were taken from MLflow 3.17 and
are pinned by the browser test.

gunicorn reads this module as its configuration: ``mlflow server --gunicorn-opts "--config python:MODULE"``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

GUNICORN_OPTIONS = f"--config python:{__name__} --threads 4 --no-control-socket --graceful-timeout 2 --keep-alive 75"
"""Options of ``mlflow server --gunicorn-opts`` for this page.

``--graceful-timeout``: clients that keep their connections open would hold up the end for 30 s. ``--keep-alive``:
gunicorn closes an idle connection after 2 s, and a request sent at that moment is lost.
"""

STORED = {
    "mlflow.workflowType_v1": "machine_learning",
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": True,
    "mlflow.assistant.panelOpen_v1": False,
}
"""What the browser stores for MLflow's page unless it is stored already."""

_SCRIPT = (
    f"<script>try {{ for (const [name, value] of Object.entries({json.dumps(STORED)})) "
    "if (localStorage.getItem(name) === null) localStorage.setItem(name, JSON.stringify(value)); } "
    "catch { /* a browser that stores nothing shows MLflow's own first page */ }</script>"
)


def opening_page(html: str) -> str:
    """Return MLflow's ``index.html`` with the script before its own; unchanged if it has no ``<head>``."""
    return html.replace("<head>", f"<head>{_SCRIPT}", 1)


def serve_opening_page(app: Any) -> None:
    """Serve the page at ``/`` of MLflow's Flask app; other requests are as before."""
    index = Path(str(app.static_folder)) / "index.html"
    if "serve" not in app.view_functions or not index.exists():
        return
    page = opening_page(index.read_text(encoding="utf-8"))

    def serve() -> Any:
        # Without an ETag: a browser may hold MLflow's own page of an earlier server on this port.
        return app.response_class(page, mimetype="text/html", headers={"Cache-Control": "no-cache"})

    app.view_functions["serve"] = serve


def post_worker_init(worker: Any) -> None:  # noqa: ARG001
    """Change the app of a worker before its first request (gunicorn calls this by its name)."""
    from mlflow.server import app

    serve_opening_page(app)
