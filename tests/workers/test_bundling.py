"""A release bundle holds the same images in every format, and nothing that is not on the whitelist."""

import json
import tracemalloc
import zipfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pydicom
import pytest
from pyarrow import parquet

from privacy import bundle
from privacy.errors import InvalidParameter
from privacy.manifests import ReleaseCertificate
from service.bundle_formats import compare
from service.domain.declarations import ReleaseDeclaration
from tests.workers import dicom_attributes
from tests.workers.bundle_material import (
    HOSTILE_LABELS,
    KEY,
    PUBLIC,
    certificate_of,
    make_bundle,
    synthetic_set,
)
from workers.bundling import contents
from workers.bundling.records import folder_names
from workers.bundling.writer import write_bundle

ALL = ("imagefolder", "parquet", "medmnist", "dicom")
DECLARED = ReleaseDeclaration(
    title="Knees <that> were not", description="Made *up*.", body_part="KNEE", licence="CC-BY-4.0",
    duo=("DUO:0000042", "DUO:0000025"), duo_details={"DUO:0000025": "12 months"},
    authors=("A. Author",), doi="10.1234/x", keywords=("knee",), test_share=0.25,
    intended_use="Teaching.", limitations="Blurred.", maintenance="None.", changes="First.",
    contact="a@example.org",
)  # fmt: skip


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("plain") / "bundle", synthetic_set())


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    synthetic = synthetic_set(45, labels=HOSTILE_LABELS, bit_depth=16, test_share=0.25)
    return make_bundle(tmp_path_factory.mktemp("rich") / "bundle", synthetic, declared=DECLARED)


def accepted(folder):
    result = bundle.verify_bundle(folder, public_key=PUBLIC)
    assert result.accepted, result.problems
    found = compare(folder)
    assert not found.problems
    assert all(check.checked for check in found.formats)
    return {check.format: check.images for check in found.formats}


def read(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("0", "1"), ("0", "1")),
        (("a/b", "../c", "d"), ("label-0", "label-1", "d")),
        ((".", "..", "x y", "x."), ("label-0", "label-1", "label-2", "label-3")),
        (("CON", "nul.txt", "com1", "console"), ("label-0", "label-1", "label-2", "console")),
        (("Normal", "normal"), ("label-0", "label-1")),
        (("label-1", "a/b"), ("label-0", "label-1")),
        (("é", "e\u0301"), ("label-0", "label-1")),
    ],
)
def test_no_label_becomes_a_path_outside_its_folder_or_another_labels_folder(labels, expected):
    names = folder_names(labels)
    assert names == expected
    assert len({name.casefold() for name in names}) == len(labels)


def test_every_format_holds_the_same_images(plain):
    assert accepted(plain) == dict.fromkeys(ALL, 12)


def test_hostile_labels_16_bits_and_a_test_split_come_back_as_they_were(rich):
    assert accepted(rich) == dict.fromkeys(ALL, 45)
    certificate = json.loads((rich / "certificate.json").read_bytes())
    assert certificate["splits"] == {"train": 36, "test": 9}
    for name in ("imagefolder", "dicom"):
        labels = set()
        for split in certificate["splits"]:
            table = (rich / name / split / "metadata.jsonl").read_text(encoding="utf-8")
            labels |= {json.loads(row)["label"] for row in table.splitlines()}
        assert labels == set(HOSTILE_LABELS)
    assert all(path.resolve().is_relative_to(rich.resolve()) for path in rich.rglob("*"))


@pytest.mark.parametrize(("count", "used"), [(1, 1), (4, 2)])
def test_one_image_or_a_label_without_images_is_a_whole_bundle(tmp_path, count, used):
    folder = make_bundle(tmp_path / "bundle", synthetic_set(count, used=used))
    assert accepted(folder) == dict.fromkeys(ALL, count)
    classes = [path for path in (folder / "imagefolder" / "train").iterdir() if path.is_dir()]
    assert len(classes) == used
    assert all(any(path.iterdir()) for path in classes)


@pytest.mark.parametrize("chosen", [("medmnist",), ("dicom", "imagefolder"), ("parquet",)], ids=str)
def test_a_bundle_holds_the_formats_that_the_owner_chose_and_no_other(tmp_path, chosen):
    declared = ReleaseDeclaration(formats=chosen)
    folder = make_bundle(tmp_path / "bundle", synthetic_set(), declared=declared)
    assert accepted(folder) == dict.fromkeys(chosen, 12)
    assert {name for name in ALL if (folder / name).exists()} == set(chosen)
    sheet = (folder / "FORMATS.md").read_text(encoding="utf-8")
    assert {name for name in ALL if f"`{name}/" in sheet} == set(chosen)


def test_a_set_that_is_no_set_is_refused():
    with pytest.raises(InvalidParameter, match="at least one image"):
        synthetic_set(0)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.1, 8), (0.25, 20), (0.5, 40)])
def test_a_split_takes_its_share_of_each_label_and_leaves_no_image_out(share, expected):
    synthetic = synthetic_set(80, labels=("a", "b"), test_share=share)
    assert synthetic.splits.get("test", 0) == expected
    test = synthetic.numbers("test")
    assert np.bincount(synthetic.labels[test], minlength=2).tolist() == [expected // 2] * 2
    whole = np.concatenate([synthetic.numbers("train"), test])
    assert sorted(whole.tolist()) == list(range(80))


def test_equal_sets_give_equal_files_but_for_the_identifiers_of_dicom(plain, tmp_path):
    again = read(make_bundle(tmp_path / "bundle", synthetic_set()))
    before = read(plain)
    assert before.keys() == again.keys()
    differing = {name for name in before if before[name] != again[name]}
    fresh = {"SHA256SUMS", "SHA256SUMS.sig", "SHA256SUMS.intoto.jsonl"}
    assert differing - fresh == {name for name in before if name.endswith(".dcm")}


@pytest.mark.parametrize("which", ["plain", "rich"])
def test_every_dicom_file_is_a_secondary_capture_image_that_says_it_is_synthetic(which, request):
    folder = request.getfixturevalue(which)
    uids = []
    for path in sorted((folder / "dicom").rglob("*.dcm")):
        content = path.read_bytes()
        assert content[:128] == bytes(128)
        image = pydicom.dcmread(path)
        assert dicom_attributes.find_faults(image) == []
        assert image.file_meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID
        assert str(image.PatientName).startswith("SYNTHETIC")
        assert "epsilon" in image.ContributingEquipmentSequence[0].ContributionDescription
        uids += [image.SOPInstanceUID, image.StudyInstanceUID, image.SeriesInstanceUID]
    assert len(set(uids)) == len(uids)
    assert all(uid.is_valid and uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)


def test_the_conformance_table_sees_what_is_wrong(plain):
    image = pydicom.dcmread(next((plain / "dicom").rglob("*.dcm")))
    del image.Modality
    image.StudyDate, image.SyntheticData = "20260101", "NO"
    image.InstitutionName = "A hospital"
    faults = " ".join(dicom_attributes.find_faults(image))
    for word in ("Modality", "StudyDate", "SyntheticData", "InstitutionName"):
        assert word in faults


@pytest.mark.parametrize("which", ["plain", "rich"])
def test_every_key_that_leaves_is_on_the_whitelist(which, request):
    folder = request.getfixturevalue(which)
    certificate = ReleaseCertificate.model_validate_json((folder / "certificate.json").read_bytes())
    contents.check(folder, certificate)
    splits = set(certificate.splits)
    with zipfile.ZipFile(folder / "medmnist" / "knees.npz") as archive:
        arrays = {f"{split}_{what}.npy" for split in splits for what in ("images", "labels")}
        assert set(archive.namelist()) == arrays | {"label_names.npy"}
        assert {info.date_time[0] for info in archive.infolist()} == {1980}
    for path in (folder / "parquet").iterdir():
        schema = parquet.read_schema(path)
        assert schema.names == ["image", "label"]
        assert set(schema.metadata) == {b"huggingface"}
    for path in folder.rglob("metadata.jsonl"):
        rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        assert {frozenset(row) for row in rows} == {frozenset({"file_name", "label"})}
    for path in folder.rglob("*.png"):
        chunks = png_chunks(path.read_bytes())
        assert set(chunks) <= {b"IHDR", b"IDAT", b"IEND"}
    statement = json.loads((folder / "SHA256SUMS.intoto.jsonl").read_text())
    assert set(statement) == {"payload", "payloadType", "signatures"}


def png_chunks(content):
    position, kinds = 8, []
    while position < len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        kinds.append(content[position + 4 : position + 8])
        position += length + 12
    return kinds


class WithMeasurement(ReleaseCertificate):
    """What somebody might add to the certificate without thinking."""

    fid_on_real_images: float = 12.5


def test_a_key_that_somebody_adds_stops_the_packaging(tmp_path):
    synthetic, declared = synthetic_set(), ReleaseDeclaration()
    values = certificate_of(synthetic, declared).model_dump()
    (tmp_path / "bundle").mkdir()
    with pytest.raises(InvalidParameter, match=r"fid_on_real_images of certificate\.json"):
        write_bundle(
            tmp_path / "bundle", synthetic, certificate=WithMeasurement(**values),
            declared=declared, terms="", key=KEY, progress=lambda *_: None,
        )  # fmt: skip
    assert not (tmp_path / "bundle" / "SHA256SUMS.sig").exists()


@pytest.mark.parametrize("name", ["notes.txt", "dicom/train/0/real.dcm", "imagefolder/val/0/1.png"])
def test_a_file_that_somebody_adds_stops_the_packaging(tmp_path, name):
    synthetic, declared = synthetic_set(), ReleaseDeclaration()
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    folder = make_bundle(tmp_path / "bundle", synthetic, declared=declared)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"x")
    with pytest.raises(InvalidParameter, match="is not on the whitelist"):
        contents.check(folder, certificate_of(synthetic, declared))


@pytest.mark.parametrize("kind", ["imagefolder/train/0/999999.png", "dicom/train/0/999999.dcm"])
def test_an_image_beyond_those_that_are_certified_stops_the_packaging(tmp_path, kind):
    synthetic, declared = synthetic_set(), ReleaseDeclaration(formats=ALL)
    folder = make_bundle(tmp_path / "bundle", synthetic, declared=declared)
    (folder / kind).write_bytes(b"x")
    with pytest.raises(InvalidParameter, match=r"train holds 13 files of records; .* names 12"):
        contents.check(folder, certificate_of(synthetic, declared))


def test_what_the_owner_declares_is_in_card_and_croissant(rich):
    card = (rich / "README.md").read_text(encoding="utf-8")
    croissant = json.loads((rich / "croissant.json").read_text(encoding="utf-8"))
    assert contents.read_document(rich / "README.md")["license"] == "cc-by-4.0"
    assert "Made \\*up\\*." in card
    assert "DUO:0000025, time limit on use" in card
    assert "12 months" in card
    assert croissant["license"] == "https://spdx.org/licenses/CC-BY-4.0.html"
    assert [term["termCode"] for term in croissant["usageInfo"]] == ["DUO:0000042", "DUO:0000025"]
    assert croissant["rai:dataUseCases"] == ["Teaching."]
    assert croissant["prov:wasDerivedFrom"][0]["@id"] == f"urn:kaima:commitment:{'1' * 64}"
    assert "A. Author (2026)" in croissant["citeAs"]


def test_the_gallery_needs_no_network_no_script_and_escapes_what_owners_write(rich):
    page = (rich / "gallery.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert "Knees &lt;that&gt; were not" in page
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert page.count("data:image/png;base64,") == 45


def _peak_bytes(folder, count):
    """Return the peak memory of bundling `count` images that are on disk."""
    path = folder / f"{count}.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (count, 96, 96)).astype(np.uint8))
    mapped = replace(synthetic_set(count, height=96, width=96), images=np.load(path, mmap_mode="r"))
    tracemalloc.start()
    make_bundle(folder / f"bundle-{count}", mapped)
    return tracemalloc.get_traced_memory()[1]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    # Each in a process of its own: what other tests left running would be counted here.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as alone:
        few, many = (alone.submit(_peak_bytes, tmp_path, count).result() for count in (2400, 4800))
    # All images of the larger set are 44 MB; what grows are names, digests and checksums. Fewer
    # than a row group of Parquet would show its filling.
    assert many - few < 4 << 20, (few, many)
