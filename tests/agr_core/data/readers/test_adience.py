from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from agr_core.data.packed.label_table import read_labels
from agr_core.data.packed.pack import Packed, pack
from agr_core.data.readers.adience import AGES
from agr_core.errors import DataError
from tests.parts.real_data import real_data

from ..conftest import picture, read_all

HEADER = "user_id\toriginal_image\tface_id\tage\tgender\tx\ty\tdx\tdy\ttilt_ang\tfiducial_yaw_angle\tfiducial_score\n"
REST = "\t0\t414\t1086\t1383\t-115\t30\t17\n"
FOLDS = {
    0: ["306@N03\t10_a_o.jpg\t1\t(25, 23)\tf", "306@N03\t11_b_o.jpg\t2\t(25, 32)\tm"],
    1: ["77@N01\t12_c_o.jpg\t5\t55\tu", "77@N01\t13_d_o.jpg\t6\tNone\t"],
    4: ["9@N09\t14_e_o.jpg\t8\t(0, 2)\tm"],
}
FACES = {
    "306@N03": ["1.10_a_o.jpg", "2.11_b_o.jpg"],
    "77@N01": ["5.12_c_o.jpg", "6.13_d_o.jpg"],
    "9@N09": ["8.14_e_o.jpg"],
}


def fold_files(folds: dict[int, list[str]]) -> dict[str, bytes]:
    return {
        f"fold_{fold}_data.txt": (HEADER + "".join(line + REST for line in lines)).encode()
        for fold, lines in folds.items()
    }


def images_of(pattern: str) -> dict[str, bytes]:
    """Images below ``faces/`` or ``aligned/``, as the pattern says."""
    files = [pattern.format(user=user, face=face) for user, faces in FACES.items() for face in faces]
    return {path: picture(number) for number, path in enumerate(files)}


TILTED = "faces/{user}/coarse_tilt_aligned_face.{face}"
ALIGNED = "aligned/{user}/landmark_aligned_face.{face}"


@pytest.mark.parametrize("pattern", [TILTED, ALIGNED, "Adience/" + ALIGNED], ids=["faces", "aligned", "deeper"])
def test_faces_have_the_labels_subject_and_fold_of_their_lines(pattern: str, write_folder: Callable[..., Path]) -> None:
    images, skipped = read_all(write_folder(fold_files(FOLDS) | images_of(pattern)))
    assert {
        image.path: (image.age_low, image.age_high, image.gender, image.subject, image.partition) for image in images
    } == {
        pattern.format(user="306@N03", face="1.10_a_o.jpg"): (25, 32, "female", "1", "0"),
        pattern.format(user="306@N03", face="2.11_b_o.jpg"): (25, 32, "male", "2", "0"),
        pattern.format(user="77@N01", face="5.12_c_o.jpg"): (60, 100, None, "5", "1"),
        pattern.format(user="77@N01", face="6.13_d_o.jpg"): (None, None, None, "6", "1"),
        pattern.format(user="9@N09", face="8.14_e_o.jpg"): (0, 2, "male", "8", "4"),
    }
    assert skipped == {}


def test_every_age_of_report_001_s_map_goes_where_the_report_sends_it() -> None:
    # S1-D2 as the report prints it, and (25, 23), which it leaves out.
    report = {
        (0, 2): ["2", "3"],
        (8, 12): ["(8, 23)", "13"],
        (15, 20): ["22"],
        (25, 32): ["23", "(27, 32)", "29", "32", "34", "(25, 23)"],
        (38, 43): ["(38, 42)", "(38, 48)", "35", "36", "42", "45"],
        (48, 53): ["46", "56"],
        (60, 100): ["55", "57", "58"],
    }
    for group, written in report.items():
        assert [AGES[age] for age in written] == [group] * len(written)
    groups = [(0, 2), (4, 6), (8, 12), (15, 20), (25, 32), (38, 43), (48, 53), (60, 100)]
    assert all(AGES[str(group)] == group for group in groups)
    assert len(AGES) == len(groups) + sum(map(len, report.values())) + 1  # and None


def test_a_group_that_a_spreadsheet_took_for_a_date_is_read_as_the_group(write_folder: Callable[..., Path]) -> None:
    lines = [
        f"9@N09\t{number}_e_o.jpg\t8\t{age}\tm" for number, age in enumerate(("6-Apr", "12-Aug", "Aug-12", "3-Sep"))
    ]
    images = {f"faces/9@N09/coarse_tilt_aligned_face.8.{number}_e_o.jpg": picture(number) for number in range(4)}
    found, skipped = read_all(write_folder(fold_files({0: lines}) | images))
    assert [(image.age_low, image.age_high) for image in found] == [(4, 6), (8, 12), (8, 12)]
    (reason,) = skipped.values()
    assert reason.startswith("age '3-Sep' is none of")


def test_a_repeated_line_is_dropped_once_for_each_time_it_repeats(write_folder: Callable[..., Path]) -> None:
    line = FOLDS[4][0]
    images, skipped = read_all(write_folder(fold_files(FOLDS | {4: [line] * 3}) | images_of(TILTED)))
    assert len(images) == 5
    assert skipped == {f"fold_4_data.txt, line {number}": "repeats an earlier line" for number in (3, 4)}


def test_what_cannot_be_used_is_named_with_its_reason(write_folder: Callable[..., Path]) -> None:
    folds = FOLDS | {2: ["x\t1.jpg\t3\t(4, 7)\tm", "x\t2.jpg\t3\t(4, 6)\tq", "x\t3.jpg\t3\t(4, 6)\tm"]}
    extra = {f"faces/x/coarse_tilt_aligned_face.3.{number}.jpg": picture(number) for number in (1, 2, 4)}
    images, skipped = read_all(write_folder(fold_files(folds) | images_of(TILTED) | extra))
    assert len(images) == 5
    told = ", ".join(f"fold_{fold}_data.txt" for fold in (0, 1, 2, 4))
    age = skipped.pop("faces/x/coarse_tilt_aligned_face.3.1.jpg")
    assert age.startswith("age '(4, 7)' is none of (0, 2), (4, 6),")
    assert skipped == {
        "faces/x/coarse_tilt_aligned_face.3.2.jpg": "gender 'q' is none of m, f, u or blank",
        "x/3.3.jpg": f"named in {told}, but there is no such image",
        "faces/x/coarse_tilt_aligned_face.3.4.jpg": f"no line of {told} names it",
    }


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            fold_files(FOLDS | {0: [FOLDS[0][1], FOLDS[0][1][:-1] + "f"]}),
            r"fold_0_data.txt, line 3 and .*, line 2 label",
        ),
        (fold_files(FOLDS | {3: [FOLDS[0][1]]}), "label the face .* differently"),
        (fold_files(FOLDS) | images_of(ALIGNED), r"are both '306@N03/1.10_a_o.jpg' of fold_0_data.txt"),
        ({"fold_0_data.txt": b"user_id\tage\n"}, "fold_0_data.txt has no column original_image, face_id, gender"),
    ],
    ids=["two genders", "two folds", "two alignments", "columns"],
)
def test_files_that_contradict_each_other_are_refused(
    files: dict[str, bytes], message: str, write_folder: Callable[..., Path]
) -> None:
    with pytest.raises(DataError, match=message):
        read_all(write_folder(images_of(TILTED) | files))


def test_packed_adience_has_ranges_folds_and_no_race(write_folder: Callable[..., Path], tmp_path: Path) -> None:
    pack(str(write_folder(fold_files(FOLDS) | images_of(TILTED))), tmp_path / "packed")
    packed = Packed.open(tmp_path / "packed")
    assert packed.label_kind == "range"
    assert packed.vocabulary.races == ()
    assert Counter(packed.table["partition"]) == {"0": 2, "1": 2, "4": 1}
    assert packed.table["gender"].isna().sum() == 2


def test_the_real_fold_files_give_the_known_numbers_without_any_image() -> None:
    told = read_labels(real_data("adience"))
    table = told.table
    assert len(told.skipped) == 19_487 - 19_370
    assert {entry.reason for entry in told.skipped} == {"repeats an earlier line"}
    assert len(table) == 19_370
    assert table["subject"].nunique() == 2284
    assert (table.groupby("subject")["partition"].nunique() == 1).all()
    assert table["age"].isna().sum() == 748
    assert table["gender"].isna().sum() == 1878
    told = table[table["gender"].notna()]
    assert len(told) == 17_492
    both = told[told["age"].notna()]
    assert len(both) == 17_452
    required = read_labels(real_data("adience"), require=("age", "gender"))
    assert required.table["image"].tolist() == both["image"].tolist()
    assert len(required.skipped) == 117 + 748 + 1170  # repeated, without an age, and with an age but no gender
    folds = Counter(both["partition"])
    assert (folds["0"] + folds["1"] + folds["2"], folds["3"], folds["4"]) == (10_716, 3_291, 3_445)
    assert set(zip(both["age_low"], both["age_high"], strict=True)) == {
        (0, 2), (4, 6), (8, 12), (15, 20), (25, 32), (38, 43), (48, 53), (60, 100)
    }  # fmt: skip
