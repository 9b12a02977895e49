"""Audits of files: the sets that are read, the arms that they become, and the exit codes."""

import json
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from privacy.errors import InvalidParameter
from privacy.evidence import Arm
from privacy.given_sets import RecordSet, evidence_of_sets
from privacy.mechanisms import UnitOfPrivacy
from workers.audit_files import read_set


def pictures(count: int, *, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (count, 16, 16))
    smooth = gaussian_filter(noise, sigma=(0, 1.5, 1.5))
    return np.clip(128 + 200 * smooth, 0, 255).astype(np.uint8)


def file_set(count: int, *, seed: int, images_per_person: int = 1) -> RecordSet:
    persons = np.arange(count) // images_per_person
    ids = np.unique(persons) + 10_000 * seed if images_per_person > 1 else np.empty(0, dtype=int)
    return RecordSet(pictures(count, seed=seed), persons, np.zeros(count, dtype=np.int64), ids)


def gather(members: RecordSet, holdout: RecordSet, **more):
    synthetic = more.pop("synthetic", file_set(20, seed=99))
    return evidence_of_sets(
        members, holdout, synthetic, reference=None, rng=np.random.default_rng(0), **more
    )


def test_a_folder_of_images_is_read_in_order_and_as_grey(tmp_path):
    images = pictures(3, seed=0)
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{index}.png")
    (tmp_path / "notes.txt").write_text("not an image", encoding="utf-8")
    found = read_set(tmp_path)
    np.testing.assert_array_equal(found.records, images)
    assert found.persons.tolist() == [0, 1, 2]


def test_an_npz_may_name_persons_and_labels_of_any_type(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(
        path,
        images=pictures(4, seed=0),
        person_ids=np.array(["b", "a", "b", "c"]),
        labels=[1, 0, 1, 1],
    )
    found = read_set(path)
    assert found.persons.tolist() == [1, 0, 1, 2]
    assert found.labels.tolist() == [1, 0, 1, 1]
    assert found.person_count == 3


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"pixels": np.zeros((2, 8, 8))}, "needs `images`"),
        ({"images": np.zeros((2, 8))}, "needs `images`"),
        ({"images": np.zeros((0, 8, 8))}, "needs `images`"),
        ({"images": np.ones((2, 8, 8)), "table": np.ones((2, 3))}, "holds `images` and `table`"),
        ({"images": np.zeros((2, 8, 8)), "person_ids": np.arange(3)}, "3 entries for 2 records"),
        ({"images": np.array([{}], dtype=object)}, "cannot be read"),
        ({"table": np.array([[0, 1], [2, np.nan]])}, "row 1, column 1 .* is nan"),
        ({"table": np.array([[0, 1], [-np.inf, 3]])}, "row 1, column 0 .* is -inf"),
        ({"table": np.array([[0, 1e200]])}, "column 1 .* is 1e\\+200"),
        ({"images": np.full((1, 8, 8), np.nan)}, "image 0, row 0, column 0"),
        ({"table": np.array([["a", "b"]])}, "of type <U1"),
        ({"table": np.ones((2, 2)) + 1j}, "of type complex128"),
        ({"table": np.zeros((3, 0))}, "hold no values"),
        ({"table": np.ones((2, 2)), "person_ids": np.full(2, np.nan)}, "without gaps"),
    ],
)
def test_an_npz_that_is_not_a_set_of_records_is_refused_by_name(tmp_path, arrays, sentence):
    path = tmp_path / "set.npz"
    np.savez(path, **arrays)
    with pytest.raises(InvalidParameter, match=sentence) as refusal:
        read_set(path)
    assert str(path) in str(refusal.value)


def test_images_of_two_sizes_are_refused_by_name(tmp_path):
    for name, size in (("a.png", 8), ("b.png", 9)):
        Image.new("L", (size, size)).save(tmp_path / name)
    with pytest.raises(InvalidParameter, match=r"b\.png was refused"):
        read_set(tmp_path)


def test_text_with_an_image_suffix_is_refused_by_name(tmp_path):
    (tmp_path / "a.png").write_text("text", encoding="utf-8")
    with pytest.raises(InvalidParameter, match=r"a\.png was refused"):
        read_set(tmp_path)


@pytest.mark.parametrize("body", [b"PK\x03\x04garbage", b"", b"hello"])
def test_an_npz_that_is_broken_is_refused_by_name(tmp_path, body):
    path = tmp_path / "set.npz"
    path.write_bytes(body)
    with pytest.raises(InvalidParameter, match=r"set\.npz was refused: it cannot be read"):
        read_set(path)


def test_a_picture_that_would_fill_the_memory_is_refused_by_name(tmp_path):
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(b"0")), chunk(b"IEND", b"")]
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    with pytest.raises(InvalidParameter, match=r"bomb\.png was refused"):
        read_set(tmp_path)


def test_truth_values_are_counted_as_numbers(tmp_path):
    np.savez(tmp_path / "set.npz", table=np.eye(3, dtype=bool))
    assert read_set(tmp_path / "set.npz").records.dtype == np.uint8


def test_members_and_holdout_stay_on_their_sides_and_coins_are_fair():
    evidence = gather(file_set(1000, seed=1), file_set(1000, seed=2))
    members, holdout = evidence.arms[:1000], evidence.arms[1000:]
    assert set(members) == {Arm.TRAIN, Arm.AUDIT_IN}
    assert set(holdout) == {Arm.AUDIT_OUT, Arm.REFERENCE_A, Arm.REFERENCE_B}
    # 5 standard deviations of a fair coin thrown 1000 times.
    assert abs((members == Arm.AUDIT_IN).sum() - 500) < 80
    assert abs((holdout == Arm.AUDIT_OUT).sum() - 500) < 80
    assert set(evidence.folds) == {1, 2}
    assert evidence.unit is UnitOfPrivacy.RECORD


def test_all_records_of_a_person_stand_in_one_arm():
    evidence = gather(
        file_set(60, seed=1, images_per_person=3), file_set(60, seed=2, images_per_person=3)
    )
    assert len(evidence.arms) == 40
    assert evidence.persons.max() == 39
    assert evidence.unit is UnitOfPrivacy.PERSON


def test_persons_who_share_a_record_are_left_out_of_the_scores():
    members, holdout = file_set(50, seed=1), file_set(50, seed=2)
    holdout.records[7] = members.records[3]
    evidence = gather(members, holdout)
    assert np.flatnonzero(evidence.excluded).tolist() == [3, 57]


def test_a_holdout_that_is_the_member_set_is_refused():
    members = file_set(50, seed=1)
    with pytest.raises(InvalidParameter, match="never saw"):
        gather(members, members)


def test_sets_of_different_shape_are_refused():
    other = RecordSet(np.zeros((5, 8, 8), np.uint8), np.arange(5), np.zeros(5, dtype=np.int64))
    with pytest.raises(InvalidParameter, match="another of"):
        gather(file_set(50, seed=1), other)


def audit(folder, synthetic: np.ndarray, **more: str) -> subprocess.CompletedProcess[str]:
    members = pictures(600, seed=1)
    for name, images in (
        ("members", members),
        ("holdout", pictures(600, seed=2)),
        ("synthetic", synthetic),
    ):
        np.savez(folder / f"{name}.npz", images=images)
    command = [sys.executable, "-m", "workers.audit_files"]
    for name in ("members", "holdout", "synthetic"):
        command += [f"--{name}", str(folder / f"{name}.npz")]
    command += ["--report", str(folder / "report.html"), "--json", str(folder / "report.json")]
    for name, value in more.items():
        command += [f"--{name}", value]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_copies_of_members_fail_with_exit_code_1_and_a_report_for_its_owner_only(tmp_path):
    copies = np.concatenate([pictures(600, seed=1)[:200], pictures(400, seed=5)])
    done = audit(tmp_path, copies, attempt="2", seed="5")
    assert done.returncode == 1, done.stderr
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (report["attempt"], report["seed"]) == (2, 5)
    assert "Retries must be counted" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert report["verdict"] == "FAIL"
    assert report["verdicts"]["near_copies"] == "FAIL"
    told = done.stdout.splitlines()
    assert told[0].startswith("FAIL: ")
    assert len(told) == len(report["gates"]) + 2
    assert max(len(line) for line in told) < 300
    for name in ("report.html", "report.json"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_wrong_usage_ends_with_exit_code_2_and_a_sentence(tmp_path):
    done = audit(tmp_path, np.zeros((10, 8, 8), np.uint8))
    assert done.returncode == 2
    assert "Bring all to one shape" in done.stderr
    assert audit(tmp_path, pictures(10, seed=3), tier="moon").returncode == 2
    holed = np.where(np.eye(16) > 0, np.nan, pictures(10, seed=3))
    done = audit(tmp_path, holed)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "image 0, row 0, column 0" in done.stderr


def test_an_error_inside_never_ends_like_a_verdict(tmp_path):
    code = (
        "import workers.audit_files as a\n"
        "def broken(*_, **__): raise RuntimeError('odd')\n"
        "a.read_set = broken\n"
        "a.run()"
    )
    options = [f"--{name}={tmp_path}" for name in ("members", "holdout", "synthetic")]
    command = [sys.executable, "-c", code, *options, f"--report={tmp_path / 'out.html'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert done.stderr.startswith("The audit failed inside (RuntimeError: odd)")
