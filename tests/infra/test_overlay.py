"""The overlay's files: a hub and its nodes know each other's public keys, and each private key is in one file."""

from __future__ import annotations

import base64
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PATH = Path(__file__).parents[2] / "infra/cluster/vast/overlay.py"


@pytest.fixture(scope="module")
def overlay() -> ModuleType:
    found = importlib.util.spec_from_file_location("overlay", PATH)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def public_of(config: str) -> str:
    private = re.search(r"^PrivateKey = (\S+)$", config, flags=re.MULTILINE)
    assert private is not None
    key = X25519PrivateKey.from_private_bytes(base64.b64decode(private[1]))
    return base64.b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def test_hub_and_nodes_fit_together(overlay: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "overlay"
    assert overlay.main(["init", str(folder), "hub.example.org:51820"]) == 0
    for name in ("vast-1", "vast-2"):
        assert overlay.main(["add", str(folder), name]) == 0
    texts = {name: (folder / f"{name}.conf").read_text() for name in ("hub", "vast-1", "vast-2")}

    assert [path.stat().st_mode & 0o777 for path in folder.iterdir()] == [0o600] * 3
    assert folder.stat().st_mode & 0o777 == 0o700
    for name, address in (("vast-1", "10.88.0.2"), ("vast-2", "10.88.0.3")):
        assert f"PublicKey = {public_of(texts[name])}\nAllowedIPs = {address}/32\n" in texts["hub"]
        assert f"Address = {address}/24\n" in texts[name]
        assert f"PublicKey = {public_of(texts['hub'])}\nEndpoint = hub.example.org:51820\n" in texts[name]
    keys = [re.findall(r"^PrivateKey = .+$", text, flags=re.MULTILINE) for text in texts.values()]
    assert len({key for (key,) in keys}) == 3


def test_a_removed_node_is_unknown_to_the_hub_and_the_others_stay(overlay: ModuleType, tmp_path: Path) -> None:
    overlay.init(tmp_path / "o", "198.51.100.7:51820")
    overlay.add(tmp_path / "o", "a")
    only_a = (tmp_path / "o/hub.conf").read_text()
    overlay.add(tmp_path / "o", "b")
    overlay.remove(tmp_path / "o", "b")

    assert (tmp_path / "o/hub.conf").read_text() == only_a
    assert not (tmp_path / "o/b.conf").exists()
    overlay.add(tmp_path / "o", "c")
    assert "Address = 10.88.0.3/24" in (tmp_path / "o/c.conf").read_text()  # its address is free again


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["add", "a\nPostUp = touch /tmp/x"], "cannot name a node"),
        (["add", "../a"], "cannot name a node"),
        (["add", "hub"], "cannot name a node"),
        (["remove", "b"], "knows no node"),
        (["init", "hub.example.org:51820"], "exists and stays"),
        (["init", "hub\nPostUp = x:1"], "is no HOST:PORT"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    overlay: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    overlay.init(tmp_path, "hub.example.org:51820")
    before = (tmp_path / "hub.conf").read_text()
    command, what = arguments

    assert overlay.main([command, str(tmp_path), what]) == 2
    assert reason in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["hub.conf"]
    assert (tmp_path / "hub.conf").read_text() == before
