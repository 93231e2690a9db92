"""From what model.weights says to a verified file on a node."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agr_core.config import TrialConfig
from agr_core.errors import IntegrityError
from agr_core.objective import Objective
from orchestrator.assets.weights import resolve_weights, stage_weights
from orchestrator.errors import AmbiguousIdError, NotFoundError
from orchestrator.settings import Settings
from orchestrator.storage import Storage, layout, open_storage

CONTENT = b"content of a file of weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", storage="", tracking_uri="", ray_address=None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "casia.safetensors"
    path.write_bytes(CONTENT)
    return path


def model(weights: str, name: str = "resnet10t", **more: Any) -> Any:
    return TrialConfig.from_document({"model": {"name": name, "weights": weights, **more}}).model


def test_a_file_comes_to_lie_under_its_content_and_reaches_the_node(
    storage: Storage, settings: Settings, file: Path
) -> None:
    assert resolve_weights(model(str(file)), storage=storage, settings=settings) == SHA256
    file.unlink()
    staged = stage_weights(SHA256, storage=storage, cache=settings.cache)
    assert (staged.path.read_bytes(), staged.sha256) == (CONTENT, SHA256)


def test_a_file_on_the_node_is_not_fetched_again(storage: Storage, settings: Settings, file: Path) -> None:
    resolve_weights(model(str(file)), storage=storage, settings=settings)
    first = stage_weights(SHA256, storage=storage, cache=settings.cache)
    storage.delete(layout.weights(SHA256))
    assert stage_weights(SHA256, storage=storage, cache=settings.cache) == first


def test_other_bytes_than_the_name_says_never_reach_the_model(storage: Storage, settings: Settings) -> None:
    storage.write(layout.weights(SHA256), CONTENT + b"!")
    with pytest.raises(IntegrityError, match="delete it and submit the sweep again"):
        stage_weights(SHA256, storage=storage, cache=settings.cache)
    storage.write(layout.weights(SHA256), CONTENT)
    assert stage_weights(SHA256, storage=storage, cache=settings.cache).path.read_bytes() == CONTENT


def test_a_file_of_another_digest_than_asked_for_is_refused_and_not_stored(
    storage: Storage, settings: Settings, file: Path
) -> None:
    with pytest.raises(IntegrityError, match=f"has SHA-256 {SHA256} instead of {'1' * 64}"):
        resolve_weights(model(str(file), weights_sha256="1" * 64), storage=storage, settings=settings)
    assert not list(storage.list("weights"))


def test_what_the_storage_has_by_its_digest_is_not_looked_for(storage: Storage, settings: Settings) -> None:
    storage.write(layout.weights(SHA256), CONTENT)
    gone = model("/gone/casia.safetensors", weights_sha256=SHA256)
    assert resolve_weights(gone, storage=storage, settings=settings) == SHA256


@pytest.mark.services
def test_an_object_in_s3_is_fetched(tmp_path: Path, settings: Settings, s3_uri: str) -> None:
    open_storage(s3_uri).write("pretrained/casia.safetensors", CONTENT)
    storage = open_storage(str(tmp_path / "storage"))
    address = f"{s3_uri}/pretrained/casia.safetensors"
    assert resolve_weights(model(address), storage=storage, settings=settings) == SHA256
    with pytest.raises(NotFoundError):
        resolve_weights(model(f"{s3_uri}/pretrained/other.safetensors"), storage=storage, settings=settings)


def test_a_relative_name_is_found_in_the_folder_of_weights(
    storage: Storage, settings: Settings, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFoundError, match=r"there is no such file.*AGR_WEIGHTS"):
        resolve_weights(model("casia.safetensors"), storage=storage, settings=settings)
    monkeypatch.setenv("AGR_WEIGHTS", str(file.parent))
    monkeypatch.setenv("AGR_HOME", str(settings.home))
    assert resolve_weights(model(file.name), storage=storage, settings=Settings.from_environment()) == SHA256


class TestTimm:
    def test_without_a_folder_timm_fetches_its_weights_itself(self, storage: Storage, settings: Settings) -> None:
        assert resolve_weights(model("timm"), storage=storage, settings=settings) is None
        assert resolve_weights(model("none"), storage=storage, settings=settings) is None

    @pytest.mark.parametrize(
        ("name", "file"),
        [
            ("resnet10t", "resnet10t.c3_in1k"),
            ("resnet18.fb_swsl_ig1b_ft_in1k", "resnet18.fb_swsl_ig1b_ft_in1k"),
            ("mobilenet_transformer", "mobilenetv1_100.ra4_e3600_r224_in1k"),
        ],
    )
    def test_the_folder_names_files_as_timm_does(
        self, storage: Storage, settings: Settings, tmp_path: Path, name: str, file: str
    ) -> None:
        (tmp_path / "offline").mkdir()
        (tmp_path / "offline" / f"{file}.safetensors").write_bytes(CONTENT)
        offline = Settings(**vars(settings) | {"weights": str(tmp_path / "offline")})
        assert resolve_weights(model("timm", name), storage=storage, settings=offline) == SHA256

    def test_a_folder_without_the_file_leaves_it_to_timm_and_says_so(
        self, storage: Storage, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        offline = Settings(**vars(settings) | {"weights": str(tmp_path)})
        with caplog.at_level(logging.WARNING):
            assert resolve_weights(model("timm"), storage=storage, settings=offline) is None
        assert "has no resnet10t.c3_in1k.safetensors: timm downloads it on each node" in caplog.text


class TestTrial:
    def test_what_a_trial_kept_is_taken(self, record_sweep: Callable[..., Any], settings: Settings) -> None:
        sweep = record_sweep()
        trial = sweep.trial(0, [9.0, 7.0, 8.0], files=True)
        for reference in (f"trial:{trial}", f"trial:{sweep.sweep_id}/{trial[:6]}", f"trial:{trial}@best"):
            sha256 = resolve_weights(model(reference), storage=sweep.storage, settings=settings)
            assert sha256 == hashlib.sha256(f"weights of {trial}, 2".encode()).hexdigest()

    def test_a_trial_that_has_not_ended_is_refused(self, record_sweep: Callable[..., Any], settings: Settings) -> None:
        sweep = record_sweep()
        trial = sweep.create(0)
        with pytest.raises(NotFoundError, match=f"trial {trial} has not ended"):
            resolve_weights(model(f"trial:{trial}"), storage=sweep.storage, settings=settings)

    def test_a_trial_without_an_epoch_has_kept_nothing(
        self, record_sweep: Callable[..., Any], settings: Settings
    ) -> None:
        sweep = record_sweep()
        trial = sweep.trial(0, [], outcome="failed")
        with pytest.raises(NotFoundError, match=r"has kept no weights: it ended \(failed\) without an epoch"):
            resolve_weights(model(f"trial:{trial}"), storage=sweep.storage, settings=settings)

    def test_a_label_stands_for_the_weights_kept_under_it(
        self, record_sweep: Callable[..., Any], settings: Settings
    ) -> None:
        sweep = record_sweep(keep={"gender": Objective(metric="val/gender_acc", direction="maximize")})
        other = sweep.create(1)
        for epoch, value in ((1, 9.0), (2, 7.0)):
            sweep.report(other, epoch, value)
        attempt = layout.attempt(sweep.sweep_id, other, 0)
        for epoch in (1, 2):
            sweep.storage.write(layout.best_weights(attempt, epoch), f"epoch {epoch}".encode())
        sweep.end_trial(other, "completed", [9.0, 7.0], kept_epochs={"gender": 1})
        for label, content in (("", "epoch 2"), ("@best", "epoch 2"), ("@gender", "epoch 1")):
            sha256 = resolve_weights(model(f"trial:{other}{label}"), storage=sweep.storage, settings=settings)
            assert sha256 == hashlib.sha256(content.encode()).hexdigest()

    def test_a_label_nobody_kept_is_refused(self, record_sweep: Callable[..., Any], settings: Settings) -> None:
        sweep = record_sweep()
        trial = sweep.trial(0, [9.0], files=True)
        with pytest.raises(NotFoundError, match="keeps no epoch for 'youngest'"):
            resolve_weights(model(f"trial:{trial}@youngest"), storage=sweep.storage, settings=settings)

    def test_an_ambiguous_or_unknown_trial_is_refused(
        self, record_sweep: Callable[..., Any], settings: Settings
    ) -> None:
        sweep = record_sweep()
        for number in range(40):
            sweep.create(number)
        with pytest.raises(AmbiguousIdError):
            resolve_weights(model("trial:"), storage=sweep.storage, settings=settings)
        with pytest.raises(NotFoundError):
            resolve_weights(model("trial:zz"), storage=sweep.storage, settings=settings)


class TestDigest:
    DATA = {"data_digest": "d" * 64, "split_digest": "5" * 64}  # noqa: RUF012

    def _digest(self, weights: str, sha256: str | None, **more: Any) -> str:
        config = TrialConfig.from_document({"model": {"name": "resnet10t", "weights": weights, **more}})
        return config.digest(**self.DATA, weights_sha256=sha256)

    def test_the_content_of_a_file_counts_and_its_address_does_not(self) -> None:
        assert self._digest("/here/a.safetensors", SHA256) == self._digest("trial:abcd1234", SHA256)
        assert self._digest("/here/a.safetensors", SHA256) != self._digest("/here/a.safetensors", "1" * 64)
        checked = self._digest("/here/a.safetensors", SHA256, weights_sha256=SHA256)
        assert checked == self._digest("/here/a.safetensors", SHA256)

    def test_none_and_timm_are_what_they_were(self) -> None:
        # The digests of these two configurations before there were weights by content.
        assert TrialConfig().digest(**self.DATA) == NO_WEIGHTS
        assert self._digest("timm", None) == self._digest("timm", SHA256) == TIMM_WEIGHTS


NO_WEIGHTS = "f183b8716c936be898c22024bd5752cf2f25e50371fc663678ec129a0dc6031e"
TIMM_WEIGHTS = "38b7783e5ab53f9bf904779fe6966819560aba16abb895c732d2c9a04520d7c9"
