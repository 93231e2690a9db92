"""A package outside of the repository adds components by entry points."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest

from agr_core import plugins
from agr_core.config import (
    AgeConfig,
    BinnedAge,
    ModelConfig,
    PluginBackbone,
    PluginEncoding,
    SamplerConfig,
    StrictModel,
    extension,
)
from agr_core.config.extension import Extension
from agr_core.errors import InputError
from orchestrator.cluster.versions import differences, versions
from orchestrator.provenance import drift
from tests.parts.plugin_template import NAME, TEMPLATE, VERSION, install_template

ROOT = TEMPLATE.parents[1]
DEFAULT_DIGEST = "f183b8716c936be898c22024bd5752cf2f25e50371fc663678ec129a0dc6031e"
"""Of the default configuration; see test_config.py."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a machine on which the template is installed."""
    folder = tmp_path_factory.mktemp("plug-in")
    install_template(folder, folder / "site")
    return {**os.environ, "PYTHONPATH": str(folder / "site"), "AGR_HOME": str(folder / "home")}


def _python(environment: dict[str, str], code: str) -> Any:
    """The JSON that a program prints."""
    code = textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def _agr(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrator.cli.main", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)


@pytest.fixture(scope="module")
def facts(installed: dict[str, str]) -> Any:
    """What one process on that machine finds, and the training of one epoch with every component."""
    return _python(
        installed,
        """
        import agr_plugin_template.backbone, agr_plugin_template.encoding  # a plug-in's module may come first

        import json, tempfile
        from pathlib import Path

        import torch
        from agr_core.config import SplitConfig, TrialConfig
        from agr_core.data.loading.trial_data import TrialData
        from agr_core.data.packed.pack import Packed, pack
        from agr_core.data.splits.splits import make_split, write_split
        from agr_core.trainer.build import build_predictor
        from orchestrator.cluster.versions import versions
        from orchestrator.errors import SpecError
        from orchestrator.provenance import collect
        from orchestrator.spec.checks.check import packages_of
        from orchestrator.spec.checks.models import check_models
        from orchestrator.spec.load import load_sweep
        from orchestrator.spec.schema import sweep_schema

        def problems(given, *overrides):
            try:
                check_models(load_sweep(given, overrides=overrides).space, file="sweep.yaml")
            except SpecError as error:
                return [f"{each.line}:{each.column} {each.path}: {each.message}" for each in error.problems]

        digests = {"data_digest": "d" * 64, "split_digest": "5" * 64}
        sweep = load_sweep(Path("docs/plugin-template/sweep.yaml"))
        configs = [sweep.space.build(lambda name, domain: domain.choices[choice]).config for choice in (0, 1)]
        config = configs[0]
        cascade = TrialConfig.from_document(
            {"tasks": ["age", "gender"], "model": {"name": "cascade", "base": {"name": "tiny_face", "widths": [4]}}}
        )
        folder = Path(tempfile.mkdtemp())
        text = Path("docs/plugin-template/sweep.yaml").read_text()
        for right, wrong in (
            ("bins: [0, 13, 20, 60]", "factor: 0"),
            ("share: 0.5", "shares: 0.5"),
            ("classification: focal", "classification: {name: focal, gamma: high}"),
            ("[[8], [8, 16]]", "[[8], [0, 16]]"),
            ("- basic_cnn", "- tiny_fac"),
        ):
            assert text.count(right) == 1
            text = text.replace(right, wrong)
        (folder / "wrong.yaml").write_text(text)
        pack("synthetic", folder / "faces", synthetic=config.data.synthetic)
        write_split(make_split(Packed.open(folder / "faces").table, SplitConfig()), folder / "split.parquet")
        data = TrialData.open(config, packed=folder / "faces", split=folder / "split.parquet", cache=folder / "cache")
        predictor = build_predictor(config, data, train_labels=data.labels("train"))
        batch = next(iter(data.train_batches(0)))
        logits = predictor.model(predictor.normalize(batch.images))
        total, losses = predictor.loss.in_training(logits, batch.labels, epoch=0)
        total.backward()
        p = logits["gender"].softmax(dim=1)[torch.arange(len(batch.images)), batch.labels.gender]
        age = logits["age"].softmax(dim=1) - torch.nn.functional.one_hot(
            torch.bucketize(batch.labels.age, torch.tensor([13.0, 20.0, 60.0]), right=True), 4
        )
        file = Path("docs/plugin-template/sweep.yaml")
        print(json.dumps({
            "mistakes": problems(folder / "wrong.yaml"),
            "unbuilt": problems(file, "space.model.0.widths=[8,8,8,8,8]", "trial.image.size=16"),
            "versions": versions(),
            "provenance": collect()["plugins"],
            "packages": packages_of(sweep.space),
            "of_cascade": cascade.packages,
            "default": TrialConfig().digest(**digests),
            "digests": sorted({each.digest(**digests) for each in configs}),
            "again": TrialConfig.from_document(config.to_document()) == config,
            "document": config.to_document()["age"],
            "schema": sorted(sweep_schema()["$defs"]),
            "images": [data.images_per_epoch, data.num_rows("train")],
            "order": [data._order(0).tolist(), data._order(0).tolist(), data._order(1).tolist()],
            "losses": {task: loss.item() for task, loss in losses.items()},
            "by_hand": {
                "gender": ((1 - p) ** 2 * -p.log()).mean().item(), "age": age.square().sum(dim=1).mean().item(),
            },
            "gradients": [float(each.grad.abs().sum()) for each in predictor.model.backbone.parameters()],
        }))
        """,
    )


def test_its_reader_packs_what_it_recognises_and_names_what_it_does_not(
    installed: dict[str, str], tmp_path: Path
) -> None:
    faces = tmp_path / "faces"
    faces.mkdir()
    random = np.random.default_rng(0)
    for number, name in enumerate(("q1_30_m.png", "q2_31_f.png", "q3_65_f.png", "other.png")):
        assert cv2.imwrite(str(faces / name), random.integers(0, 255, (32, 32, 3), dtype=np.uint8)), number
    arguments = ["data", "pack", str(faces), "-o", str(tmp_path / "packed"), "--json", "--allow-skipped"]
    done = _agr(installed, *arguments)
    assert done.returncode == 0, done.stderr
    packed = json.loads(done.stdout)
    assert (packed["images"], packed["gender"]) == (3, {"male": 1, "female": 2})
    assert [entry["file"] for entry in packed["skipped"]] == ["other.png"]


def test_its_version_is_in_the_provenance_and_a_node_without_it_is_refused_by_name(facts: Any) -> None:
    head, plug_in = facts["versions"], f"plug-in {NAME}"
    assert differences(head, versions()) == [f"{plug_in} is unknown here and {VERSION} on the head"]
    assert differences(versions(), head) == [f"{plug_in} is {VERSION} here and unknown on the head"]
    assert facts["provenance"] == {NAME: VERSION}
    assert drift({"plugins": facts["provenance"]}, {}) == [f"{plug_in}: {VERSION} -> not installed"]
    assert drift({"plugins": {NAME: "0.0.9"}}, {"plugins": {NAME: VERSION}}) == [f"{plug_in}: 0.0.9 -> {VERSION}"]


def test_the_packages_that_a_sweep_uses_are_known(facts: Any) -> None:
    assert facts["packages"] == facts["of_cascade"] == {NAME: VERSION}
    assert plugins.lacking({NAME: VERSION}) == [f"{NAME} is not installed"]
    assert plugins.lacking({}) == []


def test_its_options_are_in_the_configuration_and_its_digest_and_others_keep_theirs(facts: Any) -> None:
    assert facts["default"] == DEFAULT_DIGEST
    assert len(facts["digests"]) == 2, "the width of the backbone is all that differs"
    assert facts["again"]
    assert facts["document"] == {
        "encoding": "brier", "bins": [0, 13, 20, 60], "decode": "expectation", "factor": 1.0,
    }  # fmt: skip


def test_its_components_are_in_the_schema(facts: Any) -> None:
    assert {"TinyFace", "BrierAge", "PartSampler", "FocalLoss", "SpaceTinyFace"} <= set(facts["schema"])


def test_its_backbone_encoding_sampler_and_loss_train_a_model(facts: Any) -> None:
    assert facts["losses"] == pytest.approx(facts["by_hand"], rel=1e-5)
    assert len(facts["gradients"]) == 3
    assert all(gradient > 0 for gradient in facts["gradients"])
    first, again, second = facts["order"]
    assert first == again != second
    assert len(first) == len(set(first)) == len(second) == facts["images"][0]
    assert facts["images"][0] == pytest.approx(facts["images"][1] / 2, abs=1)


def test_mistakes_in_its_options_are_named_at_their_place(facts: Any) -> None:
    assert facts["mistakes"] == [
        "9:34 trial.age.factor: 0 given; it must be above 0.",
        "10:37 trial.sampler.shares: unknown field of part. Did you mean 'share'? Known: by, bins, name, share.",
        '11:47 trial.loss.classification.gamma: "high" given; it must be a number.',
        "14:49 space.model[0].widths.choice[1][0]: 0 given; it must be at least 1.",
        "15:7 space.model[1].name: unknown model 'tiny_fac'. Did you mean 'tiny_face'? Known: basic_cnn, levi_hassner, "
        "inception_resnet_v1, residual_attention, mobilenet_transformer, cascade, tiny_face and the names of timm.",
    ]


def test_a_model_that_it_cannot_build_is_refused_before_the_start(facts: Any) -> None:
    (problem,) = facts["unbuilt"]
    assert (
        f"model 'tiny_face' cannot be built for image.size=16 by the plug-in 'tiny_face' of {NAME} {VERSION}: "
        "ValueError: 5 widths halve the image more often than 16 pixels allow."
    ) in problem


# ---- objects that are no plug-ins


class _Good(PluginBackbone):
    name: Literal["good"]

    def build(self, *, in_channels: int, image_size: int) -> Any:
        raise NotImplementedError


class _Unbuilt(PluginBackbone):
    name: Literal["unbuilt"]


class _Timm(_Good):
    name: Literal["resnet18"]  # type: ignore[assignment]


class _Encoding(PluginEncoding, BinnedAge):
    encoding: Literal["onehot"]

    def build(self) -> Any:
        raise NotImplementedError


class _Other(StrictModel):
    name: Literal["other"]


def _extension(union: Any) -> Extension:
    (found,) = (each for each in union.__metadata__ if isinstance(each, Extension))
    return found


@pytest.fixture
def looking_again() -> Iterator[Callable[[], None]]:
    """Forgets what is installed; once more at the end."""
    caches = (plugins.load, plugins._all_points, extension._members, extension._adapter)

    def forget() -> None:
        for cached in caches:
            cached.cache_clear()

    yield forget
    forget()


@pytest.mark.parametrize(
    ("union", "group", "name", "value", "message"),
    [
        (ModelConfig, plugins.BACKBONES, "good", "_Absent", "cannot be loaded (AttributeError: "),
        (ModelConfig, plugins.BACKBONES, "other", "_Other", "no class derived from agr_core.config.PluginBackbone"),
        (ModelConfig, plugins.BACKBONES, "unbuilt", "_Unbuilt", "lacks build, which PluginBackbone asks for"),
        (ModelConfig, plugins.BACKBONES, "better", "_Good", 'must declare name: Literal["better"]'),
        (ModelConfig, plugins.BACKBONES, "resnet18", "_Timm", "has the name of a built-in component"),
        (AgeConfig, plugins.ENCODINGS, "onehot", "_Encoding", "has the name of a built-in component"),
    ],
)
def test_what_is_no_plug_in_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch,
    looking_again: Callable[[], None],
    union: Any,
    group: str,
    name: str,
    value: str,
    message: str,
) -> None:
    looking_again()
    points = EntryPoints([EntryPoint(name, f"{__name__}:{value}", group)])
    monkeypatch.setattr(plugins, "entry_points", lambda: points)
    with pytest.raises(InputError) as refused:
        _extension(union).members()
    assert f"the plug-in {name!r} of an unknown package" in str(refused.value)
    assert message in str(refused.value)


def test_a_package_that_fails_at_import_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looking_again: Callable[[], None]
) -> None:
    (tmp_path / "broken_faces.py").write_text("raise RuntimeError('no licence found')\n")
    metadata = tmp_path / "broken_faces-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-faces\nVersion: 1.2\n")
    (metadata / "entry_points.txt").write_text("[agr.samplers]\nhalf = broken_faces:Half\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    looking_again()
    with pytest.raises(InputError) as refused:
        _extension(SamplerConfig).members()
    assert str(refused.value) == (
        "the plug-in 'half' of broken-faces 1.2 cannot be loaded (RuntimeError: no licence found): its entry point "
        "says broken_faces:Half. Install it again, or uninstall it."
    )
