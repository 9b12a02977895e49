"""A bundle whose formats differ is refused although its publisher signed it; what was not compared is told."""

import io
import json
import shutil
import sys
import zipfile
import zlib

import numpy as np
import pyarrow as pa
import pydicom
import pytest
from PIL import Image
from pyarrow import parquet

from privacy import attestation, bundle
from privacy.manifests import ReleaseCertificate
from service.bundle_files import Unlike
from service.bundle_formats import compare
from service.bundle_pngs import decode_png
from tests.workers.bundle_material import KEY, PUBLIC, make_bundle, synthetic_set


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("made") / "bundle", synthetic_set(6, test_share=0.5))


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "bundle")


def sign_again(folder):
    """Sign whatever is in the folder, as a publisher with a broken exporter would."""
    (folder / "SHA256SUMS.sig").unlink()
    (folder / attestation.ATTESTATION).unlink()
    bundle.write_checksums(folder)
    bundle.sign_bundle(folder, KEY)
    document = (folder / "certificate.json").read_bytes()
    attestation.write(folder, ReleaseCertificate.model_validate_json(document), key=KEY)
    assert bundle.verify_bundle(folder, public_key=PUBLIC).accepted


def problems(folder):
    sign_again(folder)
    return dict(compare(folder).problems)


def change_a_png(folder):
    path = min((folder / "imagefolder" / "train").rglob("*.png"))
    with Image.open(path) as picture:
        pixels = np.array(picture)
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(path)
    return "shows another image"


def shrink_a_png(folder):
    path = min((folder / "imagefolder" / "train").rglob("*.png"))
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(path)
    return "pixels; (11, 9) is certified"


def as_palette(picture):
    """Show the negative of the same numbers."""
    other = Image.frombytes("P", picture.size, picture.tobytes())
    other.putpalette([255 - number // 3 for number in range(768)])
    return other


PNGS_THAT_SHOW_MORE = {
    "a palette": lambda picture: (as_palette(picture), {}),
    "one bit": lambda picture: (picture.convert("1"), {}),
    "16 bits": lambda picture: (picture.convert("I;16"), {}),
    "colours": lambda picture: (picture.convert("RGB"), {}),
    "a transparent grey": lambda picture: (picture, {"transparency": 7}),
    "frames": lambda picture: (
        picture,
        {"save_all": True, "append_images": [Image.new("L", picture.size, 9)]},
    ),
}


@pytest.mark.parametrize("change", PNGS_THAT_SHOW_MORE.values(), ids=PNGS_THAT_SHOW_MORE)
def test_a_png_that_shows_anything_but_its_grey_levels_is_refused(change):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11), np.uint8)
    with pytest.raises(Unlike, match="no grey levels of 8 bits"):
        decode_png(encoded(*change(Image.fromarray(pixels))), **SIZE, bit_depth=8)


def test_a_png_is_read_in_the_depth_that_is_certified():
    for depth, kind in ((8, np.uint8), (16, np.uint16)):
        pixels = np.random.default_rng(0).integers(0, 2**depth, (9, 11)).astype(kind)
        seen = decode_png(encoded(Image.fromarray(pixels), {}), **SIZE, bit_depth=depth)
        assert seen.dtype == kind
        assert np.array_equal(seen, pixels)
    with pytest.raises(Unlike, match="no grey levels of 16 bits"):
        decode_png(encoded(Image.new("1", (11, 9)), {}), **SIZE, bit_depth=16)


SIZE = {"height": 9, "width": 11, "file": "x.png"}


def encoded(picture, options):
    stream = io.BytesIO()
    picture.save(stream, "PNG", **options)
    return stream.getvalue()


def give_a_png_a_palette(folder):
    path = min((folder / "imagefolder" / "train").rglob("*.png"))
    with Image.open(path) as picture:
        other = as_palette(picture)
    other.save(path)
    return "holds no grey levels of 8 bits"


def break_a_png(folder):
    min((folder / "imagefolder" / "train").rglob("*.png")).write_bytes(b"no picture")
    return "is no PNG"


def swap_labels_of_a_table(folder):
    table = folder / "imagefolder" / "train" / "metadata.jsonl"
    table.write_text(table.read_text().replace('"label": "0"', '"label": "2"', 1))
    return "000000.png is '2'"


def drop_a_row_of_a_table(folder):
    table = folder / "imagefolder" / "train" / "metadata.jsonl"
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")
    return "holds 2 of the 3 images of train"


def name_a_file_elsewhere(folder):
    table = folder / "imagefolder" / "train" / "metadata.jsonl"
    table.write_text(table.read_text().replace('"0/000000.png"', '"../../../../dev/zero"', 1))
    return "is not listed in SHA256SUMS"


def claim_a_huge_png(folder):
    path = min((folder / "imagefolder" / "train").rglob("*.png"))
    content = bytearray(path.read_bytes())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    path.write_bytes(content)
    return "is no PNG that can be read"


def add_a_png(folder):
    path = min((folder / "imagefolder" / "train").rglob("*.png"))
    shutil.copy(path, path.with_name("999999.png"))
    return "is named by no row"


def add_a_dicom_file(folder):
    path = min((folder / "dicom" / "train").rglob("*.dcm"))
    shutil.copy(path, path.with_name("999999.dcm"))
    return "is named by no row"


def add_a_folder(folder):
    (folder / "originals").mkdir()
    (folder / "originals" / "0.png").write_bytes(b"x")
    return "belongs to no format that is certified"


def name_a_png_twice(folder):
    table = folder / "imagefolder" / "train" / "metadata.jsonl"
    first, _, *others = table.read_text().splitlines()
    table.write_text("\n".join([first, first, *others]) + "\n")
    return "is named by more than one row"


def cut_a_dicom_file(folder):
    path = min((folder / "dicom" / "train").rglob("*.dcm"))
    path.write_bytes(path.read_bytes()[:-50])
    return "cannot be read as DICOM"


def change_parquet(folder):
    path = folder / "parquet" / "train-00000-of-00001.parquet"
    table = parquet.read_table(path)
    labels = pa.array([0] * len(table), pa.int64())
    parquet.write_table(table.set_column(1, "label", labels), path)
    return "is labelled '0'"


def no_parquet(folder):
    (folder / "parquet" / "train-00000-of-00001.parquet").write_bytes(b"PAR1")
    return "cannot be read as Parquet"


def change_the_arrays(folder):
    path = folder / "medmnist" / "knees.npz"
    with np.load(path) as arrays:
        content = dict(arrays)
    content["train_labels"][0] = 2
    np.savez_compressed(path, **content)
    return "is labelled"


def no_arrays(folder):
    path = folder / "medmnist" / "knees.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train_images.npy", b"\x93NUMPY")
    return "cannot be read as arrays"


def dicom(change, reason):
    def edit(folder):
        path = min((folder / "dicom" / "train").rglob("*.dcm"))
        image = pydicom.dcmread(path)
        change(image)
        image.save_as(path)
        return reason

    return edit


def reuse_a_uid(folder):
    first, second = sorted((folder / "dicom" / "train").rglob("*.dcm"))[:2]
    image = pydicom.dcmread(second)
    image.StudyInstanceUID = pydicom.dcmread(first).StudyInstanceUID
    image.save_as(second)
    return "shares a UID"


def change_pixels(image):
    pixels = image.pixel_array.copy()
    pixels[0, 0] ^= 1
    image.PixelData = pixels.tobytes() + b"\x00"


BROKEN = {
    "a pixel of a PNG": change_a_png,
    "a PNG of another size": shrink_a_png,
    "a PNG that is none": break_a_png,
    "a PNG with a palette": give_a_png_a_palette,
    "a label of a table": swap_labels_of_a_table,
    "a row of a table": drop_a_row_of_a_table,
    "a path to elsewhere": name_a_file_elsewhere,
    "a PNG that claims to be huge": claim_a_huge_png,
    "a PNG that no row names": add_a_png,
    "a DICOM file that no row names": add_a_dicom_file,
    "a folder of no format": add_a_folder,
    "a PNG that two rows name": name_a_png_twice,
    "a DICOM file that was cut": cut_a_dicom_file,
    "labels of the Parquet file": change_parquet,
    "a Parquet file that is none": no_parquet,
    "labels of the arrays": change_the_arrays,
    "arrays that are none": no_arrays,
    "a pixel of a DICOM file": dicom(change_pixels, "shows another image"),
    "DICOM without its mark": dicom(
        lambda image: setattr(image, "SyntheticData", "NO"), "does not say that it is synthetic"
    ),
    "DICOM without its equipment": dicom(
        lambda image: delattr(image, "ContributingEquipmentSequence"),
        "does not say that it is synthetic",
    ),
    "DICOM that claims to be original": dicom(
        lambda image: setattr(image, "ImageType", ["ORIGINAL", "PRIMARY"]), "original image"
    ),
    "DICOM with another label": dicom(
        lambda image: setattr(image, "ImageComments", "grade = x"), "another label than its table"
    ),
    "DICOM with a UID twice": reuse_a_uid,
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_a_signed_bundle_whose_formats_differ_is_refused_and_says_where(folder, change):
    expected = change(folder)
    found = problems(folder)
    assert any(expected in reason for reason in found.values()), found


def test_a_zip_is_compared_like_its_folder(made, tmp_path):
    bundle.write_zip(made, tmp_path / "b.zip")
    found = compare(tmp_path / "b.zip")
    assert found == compare(made)
    assert [check.images for check in found.formats] == [6] * 4


@pytest.mark.parametrize(
    ("module", "unchecked"),
    [
        ("pyarrow", {"parquet"}),
        ("pydicom", {"dicom"}),
        ("PIL", {"imagefolder", "parquet"}),
    ],
)
def test_a_format_whose_library_is_missing_is_reported_as_not_checked(
    made, monkeypatch, module, unchecked
):
    monkeypatch.setitem(sys.modules, module, None)
    found = compare(made)
    assert not found.problems
    assert {check.format for check in found.formats if not check.checked} == unchecked
    reasons = [check.reason for check in found.formats if not check.checked]
    assert all("is not installed; install kaima[formats]" in reason for reason in reasons)


def test_a_format_that_this_version_does_not_know_is_not_called_checked(folder):
    document = json.loads((folder / "certificate.json").read_bytes())
    document["formats"].append("hologram")
    certificate = ReleaseCertificate.model_validate(document)
    (folder / "certificate.json").write_bytes(certificate.canonical())
    sign_again(folder)
    [unknown] = [check for check in compare(folder).formats if check.format == "hologram"]
    assert not unknown.checked
    assert unknown.reason == "this version does not know the format"
