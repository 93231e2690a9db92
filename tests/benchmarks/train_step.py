"""Our training step against a hand-written PyTorch loop: same model, same batches, one run.

    .venv/bin/python tests/benchmarks/train_step.py [--rounds 9] [--steps 6] [--case basic_cnn]

Each loop lives in a process of its own, as it would in use, and has one thread. The two take turns, so that whatever
else the machine does meets both. ``ratio`` is the hand-written loop's CPU time a step over ours (medians), which other
programs on the machine disturb least; ``wall_ratio`` is the same by the clock. The hand-written loop does
what people write: normalise, forward, losses, backward, step, sum up the loss. Ours does that and collects the
training metrics of the epoch, checks every loss and keeps to deterministic algorithms. Goal: at least 1.0.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import measured
from measured import Figure

CASES: dict[str, dict[str, Any]] = {
    "basic_cnn": {
        "model": {"name": "basic_cnn", "conv_layers": 4, "base_features": 16},
        "image": {"size": 48},
        "batch_size": 128,
        "optimizer": {"name": "nadam"},
    },
    "resnet10t": {
        "model": {"name": "resnet10t"},
        "image": {"size": 48},
        "batch_size": 128,
        "optimizer": {"name": "adam"},
    },
    "basic_cnn 112": {
        "model": {"name": "basic_cnn", "conv_layers": 4, "base_features": 32},
        "image": {"size": 112},
        "batch_size": 32,
        "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9},
    },
}


def main() -> None:
    """Measure the cases, print one JSON line each, and report the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=6, help="steps of a turn")
    parser.add_argument("--case", choices=CASES, action="append")
    arguments = measured.parse(parser, tiny={"rounds": 1, "steps": 1, "case": ["basic_cnn"]})
    figures = [
        Figure(
            name=f"by hand over ours, {case}",
            value=measure(case, arguments.rounds, arguments.steps),
            unit="times",
            at_least=1.0,
        )
        for case in arguments.case or CASES
    ]
    sys.exit(measured.report(figures, arguments))


def measure(case: str, rounds: int, steps: int) -> float:
    """Print the figures of a case; gives its ratio."""
    context = multiprocessing.get_context("spawn")
    loops: dict[str, Connection] = {}
    for loop in ("ours", "hand-written"):
        loops[loop], theirs = context.Pipe()
        context.Process(target=work, args=(theirs, loop, case, steps), daemon=True).start()
        loops[loop].recv()
    wall: dict[str, list[float]] = {loop: [] for loop in loops}
    cpu: dict[str, list[float]] = {loop: [] for loop in loops}
    for turn in range(rounds):
        for loop in sorted(loops, reverse=bool(turn % 2)):
            loops[loop].send("go")
            wall_s, cpu_s = loops[loop].recv()
            wall[loop].append(wall_s / steps)
            cpu[loop].append(cpu_s / steps)
    for connection in loops.values():
        connection.send("end")
    ratio = statistics.median(cpu["hand-written"]) / statistics.median(cpu["ours"])
    figures = {
        "case": case,
        "ours_cpu_ms": round(1000 * statistics.median(cpu["ours"]), 1),
        "hand_written_cpu_ms": round(1000 * statistics.median(cpu["hand-written"]), 1),
        "ratio": round(ratio, 3),
        "wall_ratio": round(statistics.median(wall["hand-written"]) / statistics.median(wall["ours"]), 3),
        "images_per_cpu_s": round(CASES[case]["batch_size"] / statistics.median(cpu["ours"])),
    }
    print(json.dumps(figures), flush=True)
    return ratio


def work(connection: Connection, loop: str, case: str, steps: int) -> None:
    """One turn at each message, until told to end; answers the seconds it took, by the clock and of the CPU."""
    import torch

    torch.set_num_threads(1)
    turn = {"ours": our_loop, "hand-written": hand_written_loop}[loop](case, steps)
    turn()  # allocations and kernels of the first step
    connection.send("ready")
    while connection.recv() == "go":
        started, started_cpu = time.perf_counter(), time.process_time()
        turn()
        connection.send((time.perf_counter() - started, time.process_time() - started_cpu))


def our_loop(case: str, steps: int) -> Callable[[], None]:
    """The trainer's epoch over the same batches."""
    from agr_core.evaluation.metrics import PartMetrics
    from agr_core.labels.attributes import Vocabulary
    from agr_core.labels.encodings import build_encoding
    from agr_core.trainer.determinism import use_deterministic_algorithms
    from agr_core.trainer.device import choose_device, grad_scaler
    from agr_core.trainer.images import Normalizer
    from agr_core.trainer.losses import MultiTaskLoss
    from agr_core.trainer.memory import keep_freed_memory
    from agr_core.trainer.optim import build_optimizer
    from agr_core.trainer.steps import Predictor, train_one_epoch

    config, model = _config_and_model(case)
    vocabulary = Vocabulary(("male", "female"), tuple("abcde"))
    use_deterministic_algorithms(config.compute)
    keep_freed_memory()
    device = choose_device(config.compute)
    encoding = build_encoding(config.age)
    loss = MultiTaskLoss(config.loss, encoding)
    predictor = Predictor(model, encoding, loss, Normalizer(config.image, device), config.compute, device)
    optimizer = build_optimizer(config.optimizer, model.parameters())
    scaler = grad_scaler(config.compute, device)
    batches = _batches(config, steps)

    def turn() -> None:
        metrics = PartMetrics(encoding, config.tasks, vocabulary, "exact", brief=True)
        train_one_epoch(
            predictor, optimizer, scaler, batches, epoch=0, lr_of=lambda step: config.optimizer.lr, metrics=metrics
        )
        metrics.compute()

    return turn


def hand_written_loop(case: str, steps: int) -> Callable[[], None]:
    """What one writes without us."""
    import torch
    from torch.nn.functional import cross_entropy

    config, model = _config_and_model(case)
    torch_class = {"nadam": torch.optim.NAdam, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}[config.optimizer.name]
    optimizer = torch_class(model.parameters(), **config.optimizer.model_dump(exclude={"name"}))
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    edges = torch.tensor([3.0, 7.0, 15.0, 31.0, 41.0, 66.0])
    batches = _batches(config, steps)

    def turn() -> None:
        model.train()
        running = 0.0
        for batch in batches:
            images = (batch.images.float() / 255 - mean) / std
            labels = batch.labels
            age_bins = torch.bucketize(labels.age, edges, right=True)
            optimizer.zero_grad()
            outputs = model(images)
            loss = (
                cross_entropy(outputs["age"], age_bins)
                + cross_entropy(outputs["gender"], labels.gender)
                + cross_entropy(outputs["race"], labels.race)
            )
            loss.backward()
            optimizer.step()
            running += loss.item()

    return turn


def _config_and_model(case: str) -> tuple[Any, Any]:
    from agr_core.config import TrialConfig
    from agr_core.models import build_model

    config = TrialConfig.from_document(CASES[case])
    return config, build_model(config, age_outputs=7, num_genders=2, num_races=5)


def _batches(config: Any, steps: int) -> list[Any]:
    """Random batches as ``TrialData`` makes them: bytes in the order height, width, channel."""
    import torch

    from agr_core.batch import Batch, Labels

    draw = torch.Generator().manual_seed(0)
    count, size = config.batch_size, config.image.size
    batches = []
    for _ in range(steps):
        images = torch.randint(0, 256, (count, size, size, 3), generator=draw, dtype=torch.uint8).permute(0, 3, 1, 2)
        age = torch.randint(0, 100, (count,), generator=draw).float()
        gender = torch.randint(0, 2, (count,), generator=draw)
        race = torch.randint(0, 5, (count,), generator=draw)
        labels = Labels(age=age, age_low=age, age_high=age, gender=gender, race=race)
        batches.append(Batch(images=images, labels=labels, rows=torch.arange(count)))
    return batches


if __name__ == "__main__":
    main()
