"""Whether an image fits its row is read by somebody who learnt on real images of held-out persons."""

from dataclasses import replace

import numpy as np
import pytest

from privacy.image_parts import image_schema
from tests.privacy.audit_material import JOINT_SCHEMA, innocent_joint
from workers.joint_utility import measure_joint_utility, measure_match

DECLARED = image_schema(JOINT_SCHEMA)


@pytest.fixture(scope="module")
def evidence():
    return innocent_joint(np.random.default_rng(1), persons=260, samples=200)


def matched(images):
    return measure_match(images, declared=DECLARED, progress=None, most_seconds=3000)


@pytest.mark.slow
def test_images_that_show_their_cell_are_read_rightly_and_shuffled_ones_are_not(evidence):
    good = matched(evidence.images)
    assert good["computed"], good
    assert good["scores"]["synthetic"]["balanced_accuracy"] > 0.7
    cells = np.random.default_rng(0).permutation(evidence.images.sample_labels)
    shuffled = matched(replace(evidence.images, sample_labels=cells))
    assert shuffled["scores"]["synthetic"]["balanced_accuracy"] < 0.62
    assert shuffled["scores"]["real"] == good["scores"]["real"]


def test_too_few_persons_to_learn_on_are_told(evidence):
    few = innocent_joint(np.random.default_rng(1), persons=60, samples=20).images
    found = measure_match(few, declared=DECLARED, progress=None)
    assert not found["computed"]
    assert "at least 20 of each are needed" in found["reason"]


def test_what_is_computed_of_one_part_stands_beside_why_the_others_are_not():
    few = innocent_joint(np.random.default_rng(1), persons=60, samples=20)
    alike = replace(few.images, sample_labels=np.zeros(20, dtype=int))
    rows = {"computed": True, "kind": "table"}
    found = measure_joint_utility(
        replace(few, images=alike), declared=DECLARED, of_rows=lambda _: rows, progress=None
    )
    assert found["computed"]
    assert found["table"] == rows
    assert not found["match"]["computed"]
    nothing = measure_joint_utility(
        replace(few, images=alike),
        declared=DECLARED,
        of_rows=lambda _: {"computed": False, "reason": "nobody is there"},
        progress=None,
    )
    assert not nothing["computed"]
    assert "table: nobody is there; images: " in nothing["reason"]
