"""Reachability check before a machine joins: a node that the head cannot reach would join and then be lost.

The machine listens on the ports of its future node and leaves a note on the head (protected by the token) with its
address and a random word. The doorman, a small actor on the head, connects to each port, expects that word, and leaves
the answer. The word distinguishes the machine from another one with the same private address in the head's network.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from orchestrator.cluster.gcs import Gcs

NAME = "agr-doorman"
ACTOR_NAMESPACE = "agr"
_CALLS = "call/"
_ANSWERS = "answer/"
_LOOK_S = 0.5
_DIAL_S = 2.0
_ANSWER_S = 7.0
_KEPT_S = 60.0


class Doorman:
    """Actor on the head that connects to every machine that wants to join, forever.

    In a thread, because a call of a method would end with the driver that made it.
    """

    def __init__(self, address: str) -> None:
        self._gcs = Gcs(address)
        self._answered: dict[str, float] = {}
        threading.Thread(target=self._watch, daemon=True).start()

    def watches(self) -> bool:
        """Return whether it has begun."""
        return True

    def _watch(self) -> None:
        try:
            self._watch_on()
        except BaseException:  # noqa: BLE001 - whatever it is ends the process
            traceback.print_exc()
            os._exit(1)  # Ray starts a dead actor again, and not a dead thread of one

    def _watch_on(self) -> None:
        while True:
            for key in self._gcs.keys(_CALLS):
                self._answer(key)
            for key in [key for key, at in self._answered.items() if time.monotonic() - at > _KEPT_S]:
                self._gcs.delete(_CALLS + key)
                self._gcs.delete(_ANSWERS + key)
                del self._answered[key]
            time.sleep(_LOOK_S)

    def _answer(self, key: str) -> None:
        call = self._gcs.get(key)
        word = key.removeprefix(_CALLS)
        if call is None or word in self._answered:
            return
        self._answered[word] = time.monotonic()
        threading.Thread(target=self._dial_all, args=(word, str(call["host"]), list(call["ports"]))).start()

    def _dial_all(self, word: str, host: str, ports: list[int]) -> None:
        problems: dict[int, str] = {}
        threads = [threading.Thread(target=_dial, args=(host, port, word, problems)) for port in ports]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._gcs.put(_ANSWERS + word, [f"{host}:{port}: {problems[port]}" for port in sorted(problems)])


def _dial(host: str, port: int, word: str, problems: dict[int, str]) -> None:
    try:
        with socket.create_connection((host, port), timeout=_DIAL_S) as connection:
            connection.settimeout(_DIAL_S)
            heard = connection.recv(len(word), socket.MSG_WAITALL)
        if heard != word.encode():
            problems[port] = "another machine answers"
    except TimeoutError:
        problems[port] = "no answer"
    except OSError as error:
        problems[port] = error.strerror or str(error)


def ask_to_be_dialled(gcs: Gcs, host: str, ports: Sequence[int]) -> list[str] | None:
    """Return why the head cannot reach this machine, a line per port; empty: it can. None: the doorman is silent."""
    word = secrets.token_hex(16)
    with _listening(ports, word):
        gcs.put(_CALLS + word, {"host": host, "ports": list(ports)})
        until = time.monotonic() + _ANSWER_S
        while time.monotonic() < until:
            answer = gcs.get(_ANSWERS + word)
            if answer is not None:
                return list(map(str, answer))
            time.sleep(0.1)
    gcs.delete(_CALLS + word)
    return None


@contextmanager
def _listening(ports: Sequence[int], word: str) -> Iterator[None]:
    """Send ``word`` to every connection to one of ``ports``, on all addresses, as Ray listens."""
    listeners = [socket.create_server(("", port)) for port in ports]
    threads = [threading.Thread(target=_say_to_all, args=(listener, word), daemon=True) for listener in listeners]
    try:
        for thread in threads:
            thread.start()
        yield
    finally:
        for listener in listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for thread in threads:
            thread.join()


def _say_to_all(listener: socket.socket, word: str) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return  # closed
        with connection:
            try:
                connection.sendall(word.encode())
            except OSError:
                continue  # it hung up
