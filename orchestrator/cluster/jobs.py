"""Run drivers as Ray jobs on a cluster's head, from any machine that reaches its dashboard (http, with the token)."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from agr_core.errors import InputError
from orchestrator.cluster.token import find_token, speak_with_token
from orchestrator.errors import ClusterError

_SCHEMES = ("http://", "https://")
_LAST_LINES = 12
_CONNECT_S = 5.0
_ANSWER_S = 10.0
_NO_HEAD = (
    "no head answers at {url}. Check that it runs, that this is its address, and that its firewall admits this machine."
)


def is_head_url(address: str | None) -> bool:
    """Return whether jobs are submitted to such an address."""
    return address is not None and address.startswith(_SCHEMES)


@dataclass(frozen=True)
class JobState:
    """State of a job."""

    over: bool
    succeeded: bool
    words: str


class Head:
    """The head at ``http://HOST:8265``.

    Raises:
        InputError: If there is no token, or it is refused.
        ClusterError: If nothing answers there.
    """

    def __init__(self, url: str) -> None:
        find_token()
        speak_with_token()
        self.url = url.rstrip("/")
        _check_answer(self.url)
        from ray.job_submission import JobSubmissionClient

        with _errors(self.url):
            self._client: Any = JobSubmissionClient(self.url)

    def run(self, job_id: str, command: Sequence[str], metadata: dict[str, str]) -> None:
        """Start ``command`` on the head as job ``job_id``. Neither may hold a secret: Ray shows both to all users."""
        with _errors(self.url):
            # exec: Ray's signals reach the driver itself and not a shell before it.
            self._client.submit_job(entrypoint=f"exec {shlex.join(command)}", submission_id=job_id, metadata=metadata)

    def state(self, job_id: str) -> JobState:
        """Return the state of the job."""
        with _errors(self.url):
            status = self._client.get_job_status(job_id)
            return JobState(status.is_terminal(), str(status.value) == "SUCCEEDED", str(status.value).lower())

    def last_words(self, job_id: str) -> str:
        """Return the last lines of the job's output."""
        with _errors(self.url):
            lines = [line for line in self._client.get_job_logs(job_id).splitlines() if line.strip()]
        return "\n".join(lines[-_LAST_LINES:])


def _check_answer(url: str) -> None:
    """Check for a Ray head at the address: Ray's client would wait for minutes, or call another server an old Ray.

    Raises:
        ClusterError: If none answers within 15 s, or another server does.
    """
    import requests

    try:
        response = requests.get(f"{url}/api/version", timeout=(_CONNECT_S, _ANSWER_S))
    except requests.RequestException as error:
        raise ClusterError(_NO_HEAD.format(url=url)) from error
    if response.status_code in (401, 403):  # refused without a token
        return
    if not response.ok or "ray_version" not in response.text:
        raise ClusterError(
            f"the server at {url} (HTTP {response.status_code}) is not the dashboard of a Ray head. `agr cluster head` "
            "prints the address to use; its port is usually 8265."
        )


@contextmanager
def _errors(url: str) -> Iterator[None]:
    """Raise our errors for those of Ray's client, in one line."""
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        raise InputError(
            f"the head at {url} refuses this machine's token. Copy it: ssh HEAD agr cluster token > ~/.ray/auth_token"
        ) from error
    except ConnectionError as error:
        raise ClusterError(_NO_HEAD.format(url=url)) from error
    except (RuntimeError, ValueError) as error:  # what the head answered, as Ray's client words it
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ClusterError(f"the head at {url} refuses the job: {first}") from error
