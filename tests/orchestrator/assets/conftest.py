"""Fixtures: small packed data sets of several shards."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agr_core.config import SyntheticConfig
from agr_core.data.packed.pack import Packed, pack


@pytest.fixture(scope="session")
def make_packed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Packed]:
    """Pack 40 drawn faces of a seed into about five shards, once per seed."""
    made: dict[int, Packed] = {}
    folder = tmp_path_factory.mktemp("packed")

    def make(seed: int) -> Packed:
        if seed not in made:
            faces = SyntheticConfig(images=40, size=16, seed=seed)
            pack("synthetic", folder / str(seed), synthetic=faces, shard_bytes=6_000)
            made[seed] = Packed.open(folder / str(seed))
        return made[seed]

    return make


@pytest.fixture
def packed(make_packed: Callable[[int], Packed]) -> Packed:
    """Return a packed data set; read-only."""
    data = make_packed(0)
    assert len(data.manifest["shards"]) >= 4
    return data
