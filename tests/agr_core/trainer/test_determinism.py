from __future__ import annotations

import random

import numpy as np
import torch

from agr_core.config import ComputeConfig
from agr_core.trainer.determinism import seed_everything, use_deterministic_algorithms


def _draws(seed: int, epoch: int) -> tuple[float, float, float]:
    seed_everything(seed, epoch)
    return random.random(), float(np.random.random()), torch.rand(()).item()


def test_draws_are_a_function_of_seed_and_epoch() -> None:
    first = _draws(42, 3)
    _draws(7, 0)
    assert _draws(42, 3) == first


def test_other_seeds_and_epochs_draw_otherwise() -> None:
    draws = [_draws(seed, epoch) for seed in range(3) for epoch in range(3)]
    for generator in zip(*draws, strict=True):
        assert len(set(generator)) == 9


def test_the_largest_seed_a_configuration_allows_can_be_used() -> None:
    assert _draws(2**63 - 1, 100_000) != _draws(2**63 - 2, 100_000)


def test_the_process_gets_the_trials_threads_and_deterministic_algorithms() -> None:
    before = torch.get_num_threads()
    try:
        use_deterministic_algorithms(ComputeConfig(threads=2))
        assert torch.get_num_threads() == 2
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.set_num_threads(before)
