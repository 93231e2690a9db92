from __future__ import annotations

from dataclasses import dataclass

from orchestrator.ray_tune.drain import Drain


@dataclass
class Trial:
    """What a drain looks at of a live trial."""

    trial_id: str
    node: str
    attempt: int = 0
    epoch: int = 0


class Leaving(Drain):
    """A drain that is told which nodes leave."""

    def __init__(self) -> None:
        super().__init__()
        self.leaving: set[str] = set()

    def hosts(self) -> set[str]:
        return set(self.leaving)


def test_a_trial_moves_when_its_epoch_is_over_and_not_before() -> None:
    drain, trial, other = Leaving(), Trial("a", "10.0.0.2", epoch=3), Trial("b", "10.0.0.3", epoch=3)
    assert drain.due([trial, other]) == []
    drain.leaving = {"10.0.0.2"}
    assert drain.due([trial, other]) == []
    assert drain.due([trial, other]) == []
    trial.epoch = other.epoch = 4
    assert drain.due([trial, other]) == ["a"]


def test_a_trial_that_a_leaving_node_takes_up_moves_at_once() -> None:
    drain, trial = Leaving(), Trial("a", "10.0.0.2", epoch=3)
    drain.leaving = {"10.0.0.2"}
    drain.due([trial])
    assert drain.due([trial, Trial("b", "10.0.0.2")]) == ["b"]


def test_a_trial_that_has_moved_stays_where_it_is() -> None:
    drain, trial = Leaving(), Trial("a", "10.0.0.2", epoch=1)
    drain.leaving = {"10.0.0.2"}
    drain.due([trial])
    trial.epoch = 2
    assert drain.due([trial]) == ["a"]
    trial.node, trial.attempt = "10.0.0.3", 1
    assert drain.due([trial]) == []
