"""What others ship: Optuna alone, Ray Tune's OptunaSearch with its ASHA, Syne Tune's ASHA; each called as its users do.

All search the space of the sweep file. Where a library asks for values one by one, it is asked for the domains on the
way to a configuration, as this project's search is; Syne Tune, which knows no branches, draws every domain, and what is
off the way is not used.
"""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from orchestrator.search.search import suggest
from orchestrator.spec.space import Space
from replay.table import columns

Where = Mapping[str, str | float]


class Optuna:
    """``study.ask``, ``trial.report``, ``trial.should_prune``, ``study.tell``."""

    def __init__(
        self, space: Space, *, sampler: optuna.samplers.BaseSampler, pruner: optuna.pruners.BasePruner
    ) -> None:
        self._space = space
        self._study = optuna.create_study(direction="minimize", sampler=sampler, pruner=pruner)

    def ask(self) -> tuple[optuna.Trial, Where]:
        trial = self._study.ask()
        config = self._space.build(lambda name, domain: suggest(trial, name, domain)).config
        return trial, columns(config.to_document())

    def tell(self, trial: optuna.Trial, epoch: int, value: float, *, last: bool) -> bool:
        trial.report(value, epoch)
        if last:
            reported = self._study.trials[trial.number].intermediate_values
            self._study.tell(trial, min(reported.values()))
            return False
        if trial.should_prune():
            self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return False
        return True

    def diverged(self, trial: optuna.Trial) -> None:
        self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)


class RayTune:
    """Tune's searcher and scheduler, called as its controller calls them (``_process_trial_result``)."""

    def __init__(self, space: Space, *, seed: int, scheduler: ASHAScheduler) -> None:
        def define(trial: Any) -> None:
            space.build(lambda name, domain: suggest(trial, name, domain))

        self._space = space
        self._search = OptunaSearch(define, metric="value", mode="min", seed=seed)
        self._scheduler = scheduler
        self._numbers = itertools.count()

    def ask(self) -> tuple[str, Where]:
        trial = f"{next(self._numbers):08d}"
        values = self._search.suggest(trial)
        assert values is not None, "Tune has no limit of trials here"
        self._scheduler.on_trial_add(None, SimpleNamespace(trial_id=trial))
        config = self._space.build(lambda name, _: values[name]).config
        return trial, columns(config.to_document())

    def tell(self, trial: str, epoch: int, value: float, *, last: bool) -> bool:
        result = {"training_iteration": epoch, "value": value}
        decision = self._scheduler.on_trial_result(None, SimpleNamespace(trial_id=trial), result)
        if decision == ASHAScheduler.STOP:  # also after its last epoch: max_t
            self._search.on_trial_complete(trial, result)
            return False
        self._search.on_trial_result(trial, result)
        return True

    def diverged(self, trial: str) -> None:
        self._search.on_trial_complete(trial, error=True)


class SyneTune(AbstractContextManager["SyneTune"]):
    """Syne Tune's ASHA, which lives in an environment of its own: ``syne_tune_server.py`` runs there."""

    def __init__(self, space: Space, *, python: Path, seed: int, epochs: int, grace: int, factor: int) -> None:
        self._space = space
        server = Path(__file__).parent / "syne_tune_server.py"
        self._process = subprocess.Popen(
            [str(python), str(server)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        domains = {
            varied.name: [varied.domain.kind, varied.domain.log, *varied.domain.choices]
            if varied.domain.kind == "categorical"
            else [varied.domain.kind, varied.domain.log, varied.domain.low, varied.domain.high]
            for varied in space.domains()
        }
        self._call(domains=domains, seed=seed, epochs=epochs, grace=grace, factor=factor)

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def _call(self, **request: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "Syne Tune's process has died; what it said is above"
        return json.loads(answer)

    def ask(self) -> tuple[int, Where]:
        trial, values = self._call(ask=True)
        config = self._space.build(lambda name, _: values[name]).config
        return trial, columns(config.to_document())

    def tell(self, trial: int, epoch: int, value: float, *, last: bool) -> bool:
        return bool(self._call(trial=trial, epoch=epoch, value=value) == "CONTINUE")

    def diverged(self, trial: int) -> None:
        self._call(diverged=trial)
