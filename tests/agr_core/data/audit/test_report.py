"""Each kind of finding, planted among drawn faces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agr_core.config import SyntheticConfig
from agr_core.data.audit.examine import examine
from agr_core.data.audit.images import PackedImages, open_raw
from agr_core.data.audit.report import Audit
from agr_core.data.audit.same_picture import compare
from agr_core.data.drawn.synthetic import draw_faces
from agr_core.data.packed.pack import Packed, pack
from agr_core.data.readers import RawImage

from .conftest import examined, jpeg, named, pixels_of

Folder = Callable[..., Path]


@pytest.fixture
def clean(drawn: list[bytes]) -> dict[str, bytes]:
    return named(drawn)


def test_faces_without_a_fault_pass(clean: dict[str, bytes], folder: Folder) -> None:
    document = Audit(examined(folder(clean))).document()
    assert document["images"] == 60
    assert document["passed"]
    assert not any(value for key, value in document.items() if key not in ("images", "passed"))


def test_identical_images_with_different_labels_are_a_conflict(clean: dict[str, bytes], folder: Folder) -> None:
    first = next(iter(clean))  # 20 years, male, White
    clean |= {"20_0_0_copy.jpg": clean[first], "21_1_0_copy.jpg": clean[first]}
    document = Audit(examined(folder(clean))).document()
    assert (document["duplicate_groups"], document["label_conflicts"]) == (1, 1)
    assert document["duplicates"] == [sorted([first, "20_0_0_copy.jpg", "21_1_0_copy.jpg"])]
    assert document["conflicts"][0]["labels"] == ["age", "gender"]
    assert not document["passed"]
    assert {one["file"]: (one["age"], one["gender"]) for one in document["conflicts"][0]["images"]} == {
        first: (20, "male"),
        "20_0_0_copy.jpg": (20, "male"),
        "21_1_0_copy.jpg": (21, "female"),
    }


def test_identical_images_with_equal_labels_pass_without_a_split(clean: dict[str, bytes], folder: Folder) -> None:
    document = Audit(examined(folder(clean | {"20_0_0_copy.jpg": next(iter(clean.values()))}))).document()
    assert (document["duplicate_groups"], document["label_conflicts"], document["passed"]) == (1, 0, True)


def test_recompressed_and_mirrored_copies_are_found_and_nothing_else(clean: dict[str, bytes], folder: Folder) -> None:
    files = list(clean)
    copied, flipped = pixels_of(clean[files[5]]), pixels_of(clean[files[9]])[:, ::-1]
    clean |= {
        f"{files[5][:7]}_copy.jpg": jpeg(copied, 40),
        f"{files[9][:7]}_flipped.jpg": jpeg(np.ascontiguousarray(flipped), 60),
    }
    document = Audit(examined(folder(clean))).document()
    assert document["near_duplicate_groups"] == 2
    assert [pair["files"] for pair in document["near_duplicates"]] == [[files[5], f"{files[5][:7]}_copy.jpg"]]
    assert [pair["files"] for pair in document["mirrored"]] == [[files[9], f"{files[9][:7]}_flipped.jpg"]]
    assert document["duplicate_groups"] == 0
    assert document["passed"]


def test_the_frames_of_one_video_cost_their_number_and_not_its_square(
    clean: dict[str, bytes], folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    face = pixels_of(next(iter(clean.values())))
    frames = {f"20_0_0_frame{n}.jpg": jpeg(face, 40 + n) for n in range(40)}
    compared = []

    def counted(*pictures: Any) -> Any:
        compared.append(pictures)
        return compare(*pictures)

    monkeypatch.setattr("agr_core.data.audit.examine.compare", counted)
    groups = Audit(examined(folder(frames))).near
    assert [len(group) for group in groups] == [40]
    assert len(compared) < 120  # of 780 pairs, each of them mirrored too


@pytest.mark.slow
def test_a_thousand_different_faces_give_no_pair(folder: Folder) -> None:
    faces = draw_faces(SyntheticConfig(images=1000, size=64, seed=21))
    found = examined(folder({f"20_0_0_{n}.jpg": face.data for n, face in enumerate(faces)}))
    assert len(found.table) == 1000
    assert found.near == ()


def test_a_copy_with_another_label_is_a_conflict_of_near_duplicates(clean: dict[str, bytes], folder: Folder) -> None:
    first = next(iter(clean))
    found = Audit(examined(folder(clean | {"33_0_0_copy.jpg": jpeg(pixels_of(clean[first]), 50)})))
    document = found.document()
    assert (document["label_conflicts"], document["near_label_conflicts"], document["passed"]) == (0, 1, False)
    assert document["conflicts"][0]["labels"] == ["age"]


def test_what_lies_on_two_sides_leaks(clean: dict[str, bytes], folder: Folder) -> None:
    files = list(clean)
    clean |= {
        f"{files[0][:7]}_copy.jpg": clean[files[0]],
        f"{files[1][:7]}_copy.jpg": clean[files[1]],
        f"{files[2][:7]}_near.jpg": jpeg(pixels_of(clean[files[2]])[:, ::-1].copy(), 60),
    }
    seen = examined(folder(clean))
    parts = np.full(len(seen.table), "train", dtype=object)
    names = seen.table["path"].tolist()
    parts[names.index(f"{files[0][:7]}_copy.jpg")] = "val"
    parts[names.index(f"{files[2][:7]}_near.jpg")] = "test"
    document = Audit(seen, parts).document()
    assert (document["cross_split_groups"], document["near_cross_split_groups"]) == (1, 1)
    exact, near = ({one["file"]: one["part"] for one in group} for group in document["cross_split"])
    assert exact == {files[0]: "train", f"{files[0][:7]}_copy.jpg": "val"}
    assert near == {files[2]: "train", f"{files[2][:7]}_near.jpg": "test"}
    assert not document["passed"]

    out = np.zeros(len(seen.table), dtype=np.bool_)
    out[[names.index(files[0]), names.index(files[2])]] = True
    assert Audit(seen, parts, left_out=out).document()["passed"]


def _packed(images: list[RawImage], folder: Path) -> Packed:
    from agr_core.data.drawn.synthetic import vocabulary_of
    from agr_core.data.packed.pack import pack_images

    pack_images(images, folder, source="drawn", kind="drawn", vocabulary=vocabulary_of("plain"))
    return Packed.open(folder)


def test_a_subject_on_two_sides_leaks_and_with_two_genders_contradicts(drawn: list[bytes], tmp_path: Path) -> None:
    images = [
        RawImage(path=f"{n}.jpg", data=data, age=30, age_low=30, age_high=30, gender="male", race="White",
                 subject=f"s{n // 2}" if n < 8 else None)
        for n, data in enumerate(drawn[:20])
    ]  # fmt: skip
    images[1] = RawImage(**(vars(images[1]) | {"gender": "female"}))
    images[3] = RawImage(**(vars(images[3]) | {"age": 40.0, "age_low": 40.0, "age_high": 40.0}))  # people grow older
    seen = examine(PackedImages(_packed(images, tmp_path / "packed")))
    parts = np.array(["val" if n in (1, 3, 8) else "train" for n in range(20)], dtype=object)
    found = Audit(seen, parts)
    assert found.cross_split == [(0, 1), (2, 3)]
    assert [(one.rows, one.labels) for one in found.label_conflicts] == [((0, 1), ("gender",))]


def test_files_that_cannot_be_used_are_named_with_the_reason(clean: dict[str, bytes], folder: Folder) -> None:
    first = next(iter(clean.values()))
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n"
    clean |= {
        "30_0_0_cut.jpg": first[: len(first) // 2],
        "30_0_0_empty.jpg": b"",
        "30_0_0_text.jpg": b"no image",
        "30_0_0_eps.jpg": eps,
        "30_0_7_race.jpg": first,
        "holiday.jpg": first,
        "notes.txt": b"not an image",
    }
    document = Audit(examined(folder(clean))).document()
    reasons = {entry["file"]: entry["reason"] for entry in document["unreadable"]}
    assert reasons.keys() == {f"30_0_0_{name}.jpg" for name in ("cut", "empty", "text", "eps")}
    assert reasons["30_0_0_empty.jpg"] == "the file is empty"
    assert reasons["30_0_0_cut.jpg"].startswith("damaged image (")
    assert reasons["30_0_0_text.jpg"] == reasons["30_0_0_eps.jpg"] == "not an image of a known format"
    assert {entry["file"] for entry in document["bad_names"]} == {"30_0_7_race.jpg", "holiday.jpg"}
    assert document["images"] == 60


def test_a_packed_data_set_has_the_findings_of_its_source(
    clean: dict[str, bytes], folder: Folder, tmp_path: Path
) -> None:
    first = next(iter(clean.values()))
    clean |= {
        "30_0_0_cut.jpg": first[: len(first) // 2],
        "30_0_0_empty.jpg": b"",
        "30_0_7_race.jpg": first,
        "44_0_0_copy.jpg": first,
        "44_0_0_near.jpg": jpeg(pixels_of(list(clean.values())[7]), 60),
    }
    source = folder(clean)
    pack(str(source), tmp_path / "packed")
    raw = Audit(examined(source)).document()
    packed = Audit(examine(PackedImages(Packed.open(tmp_path / "packed")))).document()
    assert raw["unreadable"]
    assert packed == raw


def test_tiny_and_thin_images_are_reported_with_their_sizes(clean: dict[str, bytes], folder: Folder) -> None:
    rng = np.random.default_rng(1)
    clean |= {
        "20_0_0_tiny.jpg": jpeg(rng.integers(0, 255, (15, 40, 3), dtype=np.uint8)),
        "20_0_0_thin.jpg": jpeg(rng.integers(0, 255, (100, 401, 3), dtype=np.uint8)),
        "20_0_0_wide.jpg": jpeg(rng.integers(0, 255, (100, 400, 3), dtype=np.uint8)),
    }
    document = Audit(examined(folder(clean))).document()
    assert document["tiny"] == [{"file": "20_0_0_tiny.jpg", "width": 40, "height": 15}]
    assert document["thin"] == [{"file": "20_0_0_thin.jpg", "width": 401, "height": 100}]


def test_labels_that_occur_once_are_reported(clean: dict[str, bytes], folder: Folder, drawn: list[bytes]) -> None:
    rng = np.random.default_rng(2)
    extra = {f"{age}_0_{race}_x.jpg": jpeg(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)) for age, race in
             ((101, 0), (20, 4))}  # fmt: skip
    document = Audit(examined(folder(clean | extra))).document()
    assert [(one["label"], one["value"], one["file"]) for one in document["single_labels"]] == [
        ("age", "101", "101_0_0_x.jpg"),
        ("race", "Others", "20_0_4_x.jpg"),
    ]


def test_classes_missing_from_a_part_and_a_shift_are_reported(clean: dict[str, bytes], folder: Folder) -> None:
    seen = examined(folder(clean))
    female = (seen.table["gender"] == "female").to_numpy()
    parts = np.where(female, "train", "val").astype(object)
    parts[np.flatnonzero(~female)[:6]] = "train"
    document = Audit(seen, parts).document()
    assert document["missing_classes"] == [{"part": "val", "label": "gender", "value": "female", "images": 30}]
    shift = {(one["part"], one["label"]): one for one in document["shift"]}
    assert shift["val", "gender"]["shifted"]
    assert shift["val", "gender"]["distance"] == pytest.approx(30 / 36, abs=1e-6)
    assert not shift["val", "race"]["shifted"]


def test_the_test_of_a_shift_is_that_of_scipy() -> None:
    import pandas as pd
    from scipy.stats import chi2_contingency

    from agr_core.data.audit.balance import shifts

    rng = np.random.default_rng(3)
    races = rng.choice(["White", "Black", "Asian"], 500, p=[0.5, 0.3, 0.2])
    table = pd.DataFrame({"age": np.nan, "gender": None, "race": races})
    parts = rng.choice(["train", "val"], 500).astype(object)
    found = [one for one in shifts(table, parts, np.ones(500, dtype=np.bool_)) if one.label == "race"]
    counts = pd.crosstab(races, parts).to_numpy()
    assert found[0].p_value == pytest.approx(chi2_contingency(counts, correction=False).pvalue)


def test_flat_images_are_no_copies_of_each_other(clean: dict[str, bytes], folder: Folder) -> None:
    clean |= {f"20_0_0_flat{n}.jpg": jpeg(np.full((64, 64, 3), 60 * n, np.uint8)) for n in range(4)}
    assert Audit(examined(folder(clean))).near == []


def test_two_processes_find_what_one_finds(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, clean: dict[str, bytes]
) -> None:
    from agr_core.data.audit import examine as module

    clean |= {"33_0_0_copy.jpg": jpeg(pixels_of(next(iter(clean.values()))), 50), "30_0_0_bad.jpg": b"x"}
    source = folder(clean)
    with open_raw(source) as images:
        here = Audit(examine(images, workers=0)).document()
        monkeypatch.setattr(module, "_IN_PROCESS", 0)
        assert Audit(examine(images, workers=2)).document() == here
