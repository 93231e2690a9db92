"""Simulated clock with an event queue, and actors that can be delayed or killed.

Everything runs in one thread. While an actor is delayed within an operation, as a process that waits for a store, the
other actors continue. Its own events that become due meanwhile run when the delay is over.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

START = 1_700_000_000.0
"""Start time of every simulation, in seconds since the epoch."""


class Killed(BaseException):
    """Raised in an actor whose process is killed."""


class Stuck(Exception):  # noqa: N818
    """Raised if the event queue is empty or the step limit is reached before the sweep ends."""


@dataclass(eq=False)
class Actor:
    """Process that performs effects in sequence and may die before or after one of them."""

    name: str
    alive: bool = True
    held_until: float | None = None
    """End of its delay; None while it is not delayed."""
    held_s: float = 0.0
    """Total delay so far, in seconds."""
    kill_in: int | None = None
    """Number of effects until it is killed; None: never."""

    def count_effect(self) -> None:
        """Count an effect; raise ``Killed`` if the actor is dead or dies now."""
        if self.kill_in is not None:
            self.kill_in -= 1
            if self.kill_in < 0:
                self.alive = False
        if not self.alive:
            raise Killed(self.name)


@dataclass
class World:
    """Clock, random source and event queue."""

    seed: str
    now: float = START
    chance: random.Random = field(init=False)
    further: random.Random = field(init=False)
    """Source of the faults added later, so that the draws from ``chance`` stay those of their seed."""
    happened: list[str] = field(default_factory=list)
    """Injected faults and commands, in order."""
    calm_after: float = START
    """Time after which no fault is injected, so that every sweep can end."""
    _events: list[tuple[float, int, Actor, Callable[[], None]]] = field(default_factory=list)
    _order: itertools.count[int] = field(default_factory=itertools.count)
    steps: int = 0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)  # noqa: S311 - not for secrets
        self.further = random.Random(f"{self.seed}/further")  # noqa: S311

    def clock(self) -> float:
        """Return the simulated time, in seconds since the epoch."""
        return self.now

    @property
    def calm(self) -> bool:
        """Whether fault injection has ended."""
        return self.now >= self.calm_after

    def happens(self, probability: float, what: str = "") -> bool:
        """Draw whether a fault happens; ``what`` is its name in ``happened``."""
        happens = not self.calm and self.chance.random() < probability
        if happens and what:
            self.note(what)
        return happens

    def note(self, what: str) -> None:
        """Record an injected fault or action."""
        self.happened.append(f"{self.now - START:.1f} s: {what}")

    def after(self, delay_s: float, actor: Actor, event: Callable[[], None]) -> None:
        """Schedule ``event`` of ``actor`` after ``delay_s`` seconds."""
        heapq.heappush(self._events, (self.now + delay_s, next(self._order), actor, event))

    def hold(self, actor: Actor, seconds: float) -> None:
        """Delay an actor while all others continue."""
        until = self.now + seconds
        actor.held_until = until
        actor.held_s += seconds
        try:
            self.run(lambda: False, until=until)
        finally:
            actor.held_until = None
        self.now = max(self.now, until)
        if not actor.alive:
            raise Killed(actor.name)

    def run(self, over: Callable[[], bool], *, until: float = float("inf"), most_steps: int = 30_000) -> None:
        """Run events until ``over`` returns true or the time ``until``.

        Raises:
            Stuck: If the queue is empty, or after more than ``most_steps`` steps.
        """
        while not over():
            if not self._events or self._events[0][0] > until:
                if until < float("inf"):
                    return
                raise Stuck("nothing is to happen any more, and the sweep has not ended.")
            time, _, actor, event = heapq.heappop(self._events)
            if not actor.alive:
                continue
            self.steps += 1
            if self.steps > most_steps:
                raise Stuck(f"after {most_steps} steps and {self.now - START:.0f} s the sweep has not ended.")
            self.now = max(self.now, time)
            if actor.held_until is not None:
                self.after(max(0.0, actor.held_until - self.now) + 1e-3, actor, event)
                if actor.held_until <= self.now:
                    return  # this actor's delay started earlier and is over, so it continues first
                continue
            try:
                event()
            except Killed as killed:
                if str(killed) != actor.name:
                    raise
