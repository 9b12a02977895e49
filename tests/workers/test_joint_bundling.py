"""A bundle of rows with images holds the same rows with the same images in every format, and no more."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from privacy import attestation, bundle
from privacy.errors import InvalidParameter
from privacy.manifests import ReleaseCertificate
from service.bundle_formats import compare
from service.domain.declarations import ReleaseDeclaration
from service.spreadsheets import unescaped
from tests.open_bundle import open_bundle
from tests.workers.bundle_material import KEY, PUBLIC, certificate_of
from tests.workers.joint_material import HOSTILE, SCHEMA, make_joint_bundle, synthetic_joint
from workers.bundling import contents
from workers.bundling.joint_preview import draw_joint_preview
from workers.bundling.joint_rows import SyntheticJoint

TRAIN = "parquet/train-00000-of-00001.parquet"
TABLE = "imagefolder/train/metadata.csv"


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return make_joint_bundle(tmp_path_factory.mktemp("plain") / "bundle", synthetic_joint())


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    synthetic = synthetic_joint(80, schema=HOSTILE, test_share=0.25)
    return make_joint_bundle(tmp_path_factory.mktemp("hostile") / "bundle", synthetic)


@pytest.fixture
def ours(plain, tmp_path):
    """Return a copy of a bundle that may be changed."""
    return shutil.copytree(plain, tmp_path / "bundle")


def refused(folder):
    result = bundle.verify_bundle(folder, public_key=PUBLIC)
    assert not result.accepted
    return [problem.file for problem in result.problems]


def signed_again(folder):
    """Sign what lies there, as a publisher would whose writer is at fault."""
    for path in folder.glob("SHA256SUMS*"):
        path.unlink()
    bundle.write_checksums(folder)
    bundle.sign_bundle(folder, KEY)
    document = (folder / "certificate.json").read_bytes()
    attestation.write(folder, ReleaseCertificate.model_validate_json(document), key=KEY)


def csv_rows(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("which", ["plain", "hostile"])
def test_every_format_holds_the_same_rows_with_the_same_images(which, request):
    folder = request.getfixturevalue(which)
    result = bundle.verify_bundle(folder, public_key=PUBLIC)
    assert result.accepted, result.problems
    found = compare(folder)
    assert not found.problems
    count = {"plain": 30, "hostile": 80}[which]
    assert {check.format: check.rows for check in found.formats} == {
        "parquet": count,
        "imagefolder": count,
    }


def test_an_image_and_its_row_are_those_that_were_drawn_together(plain):
    synthetic = synthetic_joint()
    stored = parquet.read_table(plain / TRAIN).to_pylist()
    listed = csv_rows(plain / TABLE)
    for number, (row, line) in enumerate(zip(stored, listed, strict=True)):
        assert row["age"] == int(synthetic.values[number, 0]) == int(line["age"])
        for content in (
            row["image"]["bytes"],
            (plain / "imagefolder/train" / line["file_name"]).read_bytes(),
        ):
            with Image.open(io.BytesIO(content)) as picture:
                assert np.array_equal(np.asarray(picture), synthetic.images[number])
        assert line["file_name"] == row["image"]["path"] == f"images/{number:06d}.png"


def test_swapped_images_are_refused(ours):
    first, second = (ours / f"imagefolder/train/images/00000{n}.png" for n in (0, 1))
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    assert set(refused(ours)) == {p.relative_to(ours).as_posix() for p in (first, second)}


def test_a_signed_bundle_whose_images_were_swapped_differs_from_its_other_format(ours):
    """The signature cannot help where the publisher's own writer mixed up images."""
    first, second = (ours / f"imagefolder/train/images/00000{n}.png" for n in (0, 1))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    signed_again(ours)
    assert bundle.verify_bundle(ours, public_key=PUBLIC).accepted
    [(file, reason)] = compare(ours).problems
    assert file == TABLE
    assert "'image' in row 0" in reason


@pytest.mark.parametrize("change", ["cell", "image"])
def test_a_signed_bundle_whose_row_was_changed_differs_from_its_other_format(ours, change):
    table = ours / TABLE
    if change == "cell":
        age = csv_rows(table)[4]["age"]
        text = table.read_text(encoding="utf-8")
        line = f'"images/000004.png",{age},'
        table.write_text(text.replace(line, f'"images/000004.png",{109 - int(age)},'))
        what = "'age' in row 4"
    else:
        Image.fromarray(np.zeros((9, 11), np.uint8)).save(
            ours / "imagefolder/train/images/000004.png"
        )
        what = "'image' in row 4"
    signed_again(ours)
    [(_, reason)] = compare(ours).problems
    assert what in reason


def test_a_changed_row_and_an_added_file_are_refused(ours):
    table = ours / TABLE
    table.write_bytes(table.read_bytes().replace(b'"f"', b'"m"', 1))
    (ours / "imagefolder/train/images/999999.png").write_bytes(b"x")
    assert set(refused(ours)) == {TABLE, "imagefolder/train/images/999999.png"}


def test_an_image_of_another_size_is_named(ours):
    name = "imagefolder/train/images/000002.png"
    Image.fromarray(np.zeros((10, 11), np.uint8)).save(ours / name)
    signed_again(ours)
    [(file, reason), *_] = compare(ours).problems
    assert file == name
    assert "(11, 9) is certified" in reason


def test_an_image_with_a_palette_is_refused_though_its_numbers_are_equal(ours):
    name = "imagefolder/train/images/000002.png"
    with Image.open(ours / name) as picture:
        other = Image.frombytes("P", picture.size, picture.tobytes())
    other.putpalette([255 - number // 3 for number in range(768)])
    other.save(ours / name)
    signed_again(ours)
    assert (name, "holds no grey levels of 8 bits") in compare(ours).problems


@pytest.mark.parametrize("chosen", [("parquet", "imagefolder"), ("imagefolder",)], ids=str)
def test_an_image_that_no_row_names_is_neither_packaged_nor_accepted(tmp_path, chosen):
    declared = ReleaseDeclaration(formats=chosen)
    folder = make_joint_bundle(tmp_path / "bundle", synthetic_joint(), declared=declared)
    name = "imagefolder/train/images/999999.png"
    Image.fromarray(np.zeros((9, 11), np.uint8)).save(folder / name)
    with pytest.raises(InvalidParameter, match=r"train holds 31 files of records; .* names 30"):
        contents.check(folder, certificate_of(synthetic_joint(), declared))
    signed_again(folder)
    assert compare(folder).problems == [(name, "is named by no row")]


def test_an_image_that_two_rows_name_is_refused(tmp_path):
    declared = ReleaseDeclaration(formats=("imagefolder",))
    folder = make_joint_bundle(tmp_path / "bundle", synthetic_joint(), declared=declared)
    table = folder / TABLE
    table.write_text(table.read_text().replace("images/000003.png", "images/000002.png"))
    signed_again(folder)
    reason = "is named by more than one row"
    assert ("imagefolder/train/images/000002.png", reason) in compare(folder).problems


def test_a_missing_image_and_a_format_that_is_not_certified_stop_the_packaging(ours):
    declared = ReleaseDeclaration(formats=("parquet",))
    with pytest.raises(InvalidParameter, match="imagefolder is no format that its certificate"):
        contents.check(ours, certificate_of(synthetic_joint(), declared))
    (ours / "imagefolder/train/images/000000.png").unlink()
    declared = ReleaseDeclaration(formats=("parquet", "imagefolder"))
    with pytest.raises(InvalidParameter, match="train holds 29 files of records"):
        contents.check(ours, certificate_of(synthetic_joint(), declared))


def test_no_cell_beside_the_images_is_a_formula_and_each_comes_back(hostile):
    rows = csv_rows(hostile / TABLE)
    words = [row["'\uff1dcmd"] for row in rows]
    assert not any(word[:1] in set("=+-@\uff1d\uff0b\uff0d\uff20") for word in words)
    stored = parquet.read_table(hostile / TRAIN).column("\uff1dcmd").to_pylist()
    assert [unescaped(word) or None for word in words] == stored


def test_the_certificate_declares_rows_and_images_and_nothing_measured(plain):
    document = (plain / "certificate.json").read_bytes()
    certificate = ReleaseCertificate.model_validate_json(document)
    contents.check(plain, certificate)
    assert certificate.declared == SCHEMA
    assert certificate.declared.modality == "joint"
    said = json.loads(document)["declared"]
    assert said["images"]["condition_on"] == ["sex", "grade"]
    assert said["person"] == "patient"  # the name of a column, and no id


@pytest.mark.parametrize(
    "name",
    ["gallery.html", "csv/train.csv", "imagefolder/train/f/000000.png", "marginals.json"],
)
def test_a_file_that_no_such_bundle_has_stops_the_packaging(ours, name):
    declared = ReleaseDeclaration(formats=("parquet", "imagefolder"))
    (ours / name).parent.mkdir(parents=True, exist_ok=True)
    (ours / name).write_bytes(b"x")
    with pytest.raises(InvalidParameter, match=f"{name} is not on the whitelist"):
        contents.check(ours, certificate_of(synthetic_joint(), declared))


@pytest.mark.parametrize("chosen", [("parquet",), ("imagefolder",)], ids=str)
def test_a_bundle_holds_the_formats_that_the_owner_chose(tmp_path, chosen):
    declared = ReleaseDeclaration(formats=chosen)
    folder = make_joint_bundle(tmp_path / "bundle", synthetic_joint(), declared=declared)
    assert not compare(folder).problems
    assert {p.name for p in folder.iterdir()} & {"parquet", "imagefolder"} == set(chosen)
    croissant = json.loads((folder / "croissant.json").read_text(encoding="utf-8"))
    [fields] = [each["field"] for each in croissant["recordSet"]]
    assert fields[0]["name"] == {"parquet": "image", "imagefolder": "file_name"}[chosen[0]]


def test_the_pages_show_rows_images_and_cells(plain):
    page = (plain / "preview.html").read_text(encoding="utf-8")
    assert page.count("<img ") == 20
    assert "Synthetic rows with images" in page
    card = (plain / "README.md").read_text(encoding="utf-8")
    assert "sex f, grade 0" in card
    assert "says nothing of the row's other columns" in card


def test_images_that_do_not_go_with_the_rows_are_refused():
    good = synthetic_joint()
    with pytest.raises(InvalidParameter, match=r"30 rows with images of uint8, \(9, 11\) pixels"):
        SyntheticJoint(good.values, good.images[1:], SCHEMA)
    with pytest.raises(InvalidParameter, match="Draw the samples again"):
        SyntheticJoint(good.values, good.images.astype(np.uint16), SCHEMA)


def test_the_preview_is_a_picture_of_both():
    with Image.open(io.BytesIO(draw_joint_preview(synthetic_joint()))) as sheet:
        assert sheet.width > 800
        assert sheet.height > 900


@pytest.mark.slow
@pytest.mark.parametrize("which", ["plain", "hostile"])
def test_datasets_pandas_and_mlcroissant_read_the_same_rows_with_images(which, request):
    rows = open_bundle(request.getfixturevalue(which))
    assert {row.tool for row in rows} >= {"pandas", "datasets", "mlcroissant"}
    assert not [(row.tool, row.opened, row.reason) for row in rows if row.reason]
