"""Delivery of messages by Apprise (an optional extra) in a separate thread, so that the driver never waits.

The addresses contain secrets and are never printed. Errors identify a service only by its kind and number.
"""

from __future__ import annotations

import logging
import queue
import re
import threading
import time
from collections.abc import Callable
from typing import Any

from agr_core.errors import InputError
from orchestrator.journal.events import Event
from orchestrator.notify.messages import Message, Messages

_LOG = logging.getLogger(__name__)

_LOOK_S = 5.0
_SEND_AT_END_S = 20.0


class Addresses:
    """Addresses of ``AGR_NOTIFY``, separated by whitespace or commas.

    Raises:
        InputError: If Apprise is not installed or rejects an address.
    """

    def __init__(self, text: str) -> None:
        try:
            import apprise
        except ImportError as error:
            raise InputError("AGR_NOTIFY needs the extra `notify`: pip install 'agr-sweeps[notify]'.") from error
        logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it logs addresses
        self._services: list[Any] = []
        for number, address in enumerate(re.split(r"[\s,]+", text.strip()), start=1):
            service = apprise.Apprise.instantiate(address)
            if service is None:
                raise InputError(
                    f"AGR_NOTIFY: Apprise does not recognise address {number}; write it as slack://TOKENS, "
                    "mailto://USER:PASSWORD@HOST, json://HOST/PATH."
                )
            self._services.append(service)

    def send(self, message: Message) -> list[str]:
        """Send a message to each address; return one line per failure, without secrets."""
        problems = []
        for number, service in enumerate(self._services, start=1):
            try:
                sent = bool(service.notify(title=message.title, body=message.text))
            except Exception:  # noqa: BLE001 - each service raises its own type, and the text may contain the address
                sent = False
            if not sent:
                problems.append(
                    f"address {number} of AGR_NOTIFY ({service.service_name}) did not take the message: it does not "
                    "answer, or refuses it. `agr notify --test` tries again."
                )
        return problems


class Notifier:
    """Listener that sends notifications for the events of one sweep."""

    def __init__(self, addresses: Addresses, sweep_id: str, *, warn: Callable[[str], None] = _LOG.warning) -> None:
        self._addresses = addresses
        self._messages = Messages(sweep_id)
        self._warn = warn
        self._warned: set[str] = set()
        self._queue: queue.Queue[Message | None] = queue.Queue()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._send_all, name="notifier", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        """Process one stored event."""
        with self._lock:
            message = self._messages.of(event)
        if message is not None:
            self._queue.put(message)

    def _send_all(self) -> None:
        while True:
            try:
                message = self._queue.get(timeout=_LOOK_S)
            except queue.Empty:
                with self._lock:
                    message = self._messages.idle(time.time())
                if message is None:
                    continue
            if message is None:
                return
            for problem in self._addresses.send(message):
                if problem not in self._warned:  # warn once per problem
                    self._warned.add(problem)
                    self._warn(problem)

    def close(self) -> None:
        """Send queued messages and wait for a limited time."""
        self._queue.put(None)
        self._thread.join(_SEND_AT_END_S)
