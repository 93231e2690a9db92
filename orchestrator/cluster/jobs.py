"""Drivers as Ray jobs on a cluster's head, started from anywhere that reaches its dashboard (http, with the token)."""

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


def is_head_url(address: str | None) -> bool:
    """Whether an address is one that jobs are submitted to."""
    return address is not None and address.startswith(_SCHEMES)


@dataclass(frozen=True)
class JobState:
    """How a job stands."""

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
        from ray.job_submission import JobSubmissionClient

        with _errors(self.url):
            self._client: Any = JobSubmissionClient(self.url)

    def run(self, job_id: str, command: Sequence[str], metadata: dict[str, str]) -> None:
        """Start ``command`` on the head as job ``job_id``. Neither may hold a secret: Ray shows them to all."""
        with _errors(self.url):
            # exec: Ray's signals reach the driver itself and not a shell before it.
            self._client.submit_job(entrypoint=f"exec {shlex.join(command)}", submission_id=job_id, metadata=metadata)

    def state(self, job_id: str) -> JobState:
        """How the job stands."""
        with _errors(self.url):
            status = self._client.get_job_status(job_id)
            return JobState(status.is_terminal(), str(status.value) == "SUCCEEDED", str(status.value).lower())

    def last_words(self, job_id: str) -> str:
        """The last lines that the job printed."""
        with _errors(self.url):
            lines = [line for line in self._client.get_job_logs(job_id).splitlines() if line.strip()]
        return "\n".join(lines[-_LAST_LINES:])


@contextmanager
def _errors(url: str) -> Iterator[None]:
    """Our errors for those of Ray's client, in one line."""
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        raise InputError(
            f"the head at {url} refuses this machine's token. Copy it: ssh HEAD agr cluster token > ~/.ray/auth_token"
        ) from error
    except ConnectionError as error:
        raise ClusterError(
            f"no head answers at {url}. Is it up, is that its address, does its firewall let this machine through?"
        ) from error
    except (RuntimeError, ValueError) as error:  # what the head answered, as Ray's client words it
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ClusterError(f"the head at {url} does not take it: {first}") from error
