"""Syne Tune's ASHA behind a pipe: a JSON request a line, a JSON answer a line. Runs where syne-tune is installed.

The first request has the domains, the seed, the most epochs, the first rung and the reduction factor; then come
``ask``, the value of an epoch, or ``diverged``.
"""

from __future__ import annotations

import datetime
import json
import sys
from typing import Any

from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import choice, lograndint, loguniform, randint, uniform
from syne_tune.optimizer.baselines import ASHA

_DOMAINS = {("float", False): uniform, ("float", True): loguniform, ("int", False): randint, ("int", True): lograndint}


def domain(kind: str, log: bool, *values: Any) -> Any:
    return choice(list(values)) if kind == "categorical" else _DOMAINS[kind, log](*values)


def main() -> None:
    requests, answers = sys.stdin, sys.stdout
    sys.stdout = sys.stderr  # whatever the library prints is no answer
    first = json.loads(requests.readline())
    scheduler = ASHA(
        {name: domain(*values) for name, values in first["domains"].items()},
        metric="value",
        time_attr="epoch",
        max_t=first["epochs"],
        grace_period=first["grace"],
        reduction_factor=first["factor"],
        do_minimize=True,
        random_seed=first["seed"],
    )
    trials: list[Trial] = []
    answer: Any = None
    while True:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        line = requests.readline()
        if not line:
            return
        request = json.loads(line)
        if "ask" in request:
            suggestion = scheduler.suggest()
            trials.append(Trial(len(trials), suggestion.config, datetime.datetime.now(tz=datetime.UTC)))
            scheduler.on_trial_add(trials[-1])
            answer = [len(trials) - 1, suggestion.config]
        elif "diverged" in request:
            scheduler.on_trial_error(trials[request["diverged"]])
            answer = None
        else:
            result = {"value": request["value"], "epoch": request["epoch"]}
            answer = scheduler.on_trial_result(trials[request["trial"]], result)


if __name__ == "__main__":
    main()
