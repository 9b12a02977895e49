"""Records are encoded by what was declared, never by what they hold."""

import numpy as np
import pytest

from privacy.errors import InvalidParameter
from privacy.manifests import DatasetSchema
from training.records import PersonIndex, TrainingRecords, decode, encode, pixel_type


def _schema(bit_depth=8):
    return DatasetSchema(
        declared_count=50, height=8, width=9, bit_depth=bit_depth, label="grade", labels=("a", "b")
    )


@pytest.mark.parametrize("bit_depth", [8, 16])
def test_decoding_undoes_encoding_for_every_pixel_value(bit_depth):
    schema = _schema(bit_depth)
    every = np.arange(2**bit_depth, dtype=pixel_type(schema)).reshape(-1, 8, 8)
    np.testing.assert_array_equal(decode(encode(every, schema), schema), every)


def test_encoding_of_a_record_does_not_depend_on_the_other_records():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 40, (5, 8, 9), dtype=np.uint8)
    alone = encode(images[:1], _schema())
    images[1:] = 255
    np.testing.assert_array_equal(encode(images, _schema())[:1], alone)


def test_persons_are_grouped_wherever_their_records_lie():
    index = PersonIndex.of(np.array([4, 1, 4, 9, 1, 4]))
    groups = [index.records_of(person).tolist() for person in range(len(index))]
    assert groups == [[1, 4], [0, 2, 5], [3]]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"images": np.zeros((2, 9, 8), np.uint8)}, "declared shape"),
        ({"images": np.zeros((2, 8, 9), np.uint16)}, "8 bits were declared"),
        ({"labels": np.array([0, 2])}, "labels were refused"),
        ({"persons": np.array([0])}, "1 persons"),
    ],
)
def test_records_that_contradict_the_schema_are_refused_with_the_value(change, word):
    right = {
        "images": np.zeros((2, 8, 9), np.uint8),
        "labels": np.array([0, 1]),
        "persons": np.array([0, 0]),
    }
    TrainingRecords(**right).checked(_schema())
    with pytest.raises(InvalidParameter, match=word):
        TrainingRecords(**right | change).checked(_schema())
