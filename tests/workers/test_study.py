"""How the cases of a reader study are drawn: held-out persons, matched labels, one form for all."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from privacy.errors import InvalidParameter
from privacy.evidence import Arm
from service.domain.studies import REAL, SYNTHETIC, StudyCase, StudyPlan
from workers.study import draw_cases, encode, held_out_records, list_digest


def plan(**changes) -> StudyPlan:
    given = {"samples": "0" * 64, "question": "q", "seed": "1" * 32, "cases_per_class": 4}
    return StudyPlan(**{**given, **changes})


def test_real_cases_are_one_record_of_each_person_whom_the_generator_never_saw() -> None:
    persons = np.array([0, 0, 1, 2, 2, 2, 3, 4, 5])
    arms = np.array(
        [Arm.TRAIN, Arm.AUDIT_OUT, Arm.REFERENCE_A, Arm.AUDIT_IN, Arm.REFERENCE_B, Arm.AUDIT_OUT]
    )
    duplicated = np.array([False, False, False, False, False, True])
    dataset = SimpleNamespace(persons=persons, duplicated_persons=duplicated)
    seen: set[int] = set()
    for seed in range(20):
        records = held_out_records(dataset, arms, rng=np.random.default_rng(seed))
        assert sorted(persons[records]) == [1, 2, 4]
        seen |= set(records.tolist())
    assert seen == {2, 3, 4, 5, 7}  # any of a person's records, over many draws


def test_each_real_case_has_a_synthetic_one_of_its_label_and_numbers_tell_nothing() -> None:
    rng = np.random.default_rng(1)
    real, synthetic = rng.integers(0, 3, 30), np.arange(60) % 3
    drawn = draw_cases(
        plan(cases_per_class=10), real_labels=real, synthetic_labels=synthetic, rng=rng
    )
    by_pair: dict[int, dict[str, int]] = {}
    for case in drawn:
        by_pair.setdefault(case.pair, {})[case.truth] = case.label
    assert all(labels[REAL] == labels[SYNTHETIC] for labels in by_pair.values())
    assert len({(case.truth, case.index) for case in drawn}) == 20
    kinds = [case.truth for case in drawn]
    assert kinds not in ([REAL, SYNTHETIC] * 10, [REAL] * 10 + [SYNTHETIC] * 10)


def test_too_few_held_out_persons_are_refused_with_the_number() -> None:
    with pytest.raises(InvalidParameter, match="there are 3 held-out persons"):
        draw_cases(
            plan(),
            real_labels=np.zeros(3, int),
            synthetic_labels=np.zeros(9, int),
            rng=np.random.default_rng(1),
        )


def test_both_depths_become_plain_8_bit_pngs_scaled_by_the_declared_depth() -> None:
    deep = np.array([[0, 65535], [32768, 256]], np.uint16)
    image = Image.open(io.BytesIO(encode(deep, bit_depth=16)))
    assert (image.mode, image.info) == ("L", {})
    assert np.asarray(image).tolist() == [[0, 255], [128, 1]]
    flat = np.array([[0, 7], [250, 255]], np.uint8)
    assert np.asarray(Image.open(io.BytesIO(encode(flat, bit_depth=8)))).tolist() == flat.tolist()


def test_the_digest_of_the_list_changes_with_every_part_of_it() -> None:
    given = {"study_id": "s", "number": 1, "truth": REAL, "label": 0, "pair": 1, "key": "k"}
    seen = {list_digest([StudyCase(**given, digest="a" * 64)])}
    for change in ({"truth": SYNTHETIC}, {"label": 1}, {"pair": 2}, {"digest": "b" * 64}):
        seen.add(list_digest([StudyCase(**{**given, "digest": "a" * 64, **change})]))
    assert len(seen) == 5
