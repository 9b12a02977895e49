"""npz files with pickles, lying headers, missing arrays."""

import io
import zipfile

import numpy as np
import pytest

from tests.workers.intake import uploads
from tests.workers.intake.refusals import (
    Cases,
    assert_refused,
    with_arrays,
)
from tests.workers.intake.uploads import PERSONS

CASES = Cases()
case = CASES.register


@case("pickled objects", file="train_patient_ids.npy")
def pickle_in_an_npz(folder):
    ids = np.asarray([uploads.patient(number) for number in range(PERSONS)], dtype=object)
    return with_arrays(folder, train_patient_ids=ids)


@case("the array patient_ids is missing")
def npz_without_persons(folder):
    return with_arrays(folder, train_patient_ids=None)


@case("the array labels is missing")
def npz_without_labels(folder):
    return with_arrays(folder, train_labels=None)


@case("holds no images", file="the upload")
def npz_without_images(folder):
    np.savez(folder / "upload.npz", table=np.zeros(3))
    return folder / "upload.npz"


@case("other values than integers or short text", file="train_labels.npy")
def npz_with_nan_labels(folder):
    labels = (np.arange(PERSONS) % 3).astype(float)
    labels[4] = np.nan
    return with_arrays(folder, train_labels=labels)


@case("has not one value per image", file="train_labels.npy")
def npz_with_several_labels_per_image(folder):
    return with_arrays(folder, train_labels=np.zeros((PERSONS, 3), np.int64))


@case("a label that was not declared: 9", file="train_labels.npy")
def npz_with_an_unknown_label(folder):
    return with_arrays(folder, train_labels=np.full(PERSONS, 9))


@case("another size than declared: 8x16", file="train_images.npy")
def npz_of_another_size(folder):
    return with_arrays(folder, train_images=np.zeros((PERSONS, 16, 8), np.uint8))


@case("another bit depth than declared", file="train_images.npy")
def npz_of_another_depth(folder):
    return with_arrays(folder, train_images=np.zeros((PERSONS, 16, 16), np.float32))


@case("no stack of greyscale images", file="train_images.npy")
def npz_of_colour_images(folder):
    return with_arrays(folder, train_images=np.zeros((PERSONS, 16, 16, 3), np.uint8))


@case("stored column by column", file="train_images.npy")
def npz_in_fortran_order(folder):
    images = np.asfortranarray(uploads.npz_arrays()["train_images"])
    return with_arrays(folder, train_images=images)


@case("nothing says whose image it is", file="train_images[0]")
def npz_with_an_empty_person(folder):
    return with_arrays(folder, train_patient_ids=np.full(PERSONS, "nan"))


@case("its person is in two splits", file="test_images[0]")
def npz_with_a_person_in_two_splits(folder):
    arrays = uploads.npz_arrays()
    extra = {name.replace("train", "test"): array[:1] for name, array in arrays.items()}
    return with_arrays(folder, **extra)


@case("another size than its header says", file="train_images.npy")
def npz_whose_header_lies(folder):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 16, 16)}
    )
    arrays = uploads.npz_arrays()
    with zipfile.ZipFile(folder / "upload.npz", "w") as archive:
        archive.writestr("train_images.npy", header.getvalue())
        for name in ("train_labels", "train_patient_ids"):
            buffer = io.BytesIO()
            np.save(buffer, arrays[name])
            archive.writestr(f"{name}.npy", buffer.getvalue())
    return folder / "upload.npz"


@case("no npy array", file="train_images.npy")
def npz_of_other_bytes(folder):
    with zipfile.ZipFile(folder / "upload.npz", "w") as archive:
        archive.writestr("train_images.npy", b"not an array")
        archive.writestr("train_labels.npy", b"not an array")
        archive.writestr("train_patient_ids.npy", b"not an array")
    return folder / "upload.npz"


@case("too many images", file="the upload", limits={"records": 10})
def npz_of_too_many_records(folder):
    return with_arrays(folder)


@pytest.mark.parametrize("hostile", CASES, ids=str)
def test_it_is_refused_and_nothing_is_stored(tmp_path, hostile):
    assert_refused(hostile, tmp_path)
