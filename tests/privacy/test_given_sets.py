"""Audits of any generator's arrays: the library's door, and what it refuses."""

import numpy as np
import pytest

from privacy.audits import audit
from privacy.errors import InvalidParameter
from privacy.evidence import SplitOrigin
from privacy.given_sets import evidence_of_sets, record_set, same_ids
from privacy.mechanisms import PrivacyTarget, UnitOfPrivacy
from privacy.report import Verdict
from tests.privacy.audit_material import pictures


def gathered(members, others, **more):
    samples = record_set(np.zeros((20, *members.records.shape[1:]), dtype=np.uint8))
    rng = np.random.default_rng(0)
    return evidence_of_sets(members, others, samples, reference=None, rng=rng, **more)


@pytest.fixture(scope="module")
def copied():
    rng = np.random.default_rng(1)
    members, others = pictures(400, rng), pictures(400, rng)
    samples = np.concatenate([members[:60], pictures(340, rng)])
    known = {
        "loss": np.concatenate([np.ones(400), np.zeros(400)]) + 0.1 * rng.normal(size=800),
    }
    return audit(
        members=record_set(members, scores={"loss": known["loss"][:400]}, name="members"),
        non_members=record_set(others, scores={"loss": known["loss"][400:]}, name="others"),
        samples=samples,
        target=PrivacyTarget(epsilon=3.0, delta=1e-5),
    )


def test_a_notebook_gets_the_report_of_copies_and_scores_from_plain_arrays(copied):
    assert copied.verdict is Verdict.FAIL
    assert copied.verdicts["near_copies"] is Verdict.FAIL
    assert copied.verdicts["loss_membership"] is Verdict.FAIL
    assert copied.epsilon_claimed == 3.0


def test_what_nobody_drew_by_coins_bounds_no_epsilon_and_says_so(copied):
    assert copied.split == "unknown"
    assert copied.epsilon_lower_bound is None
    assert "coin" in copied.epsilon_reason
    assert "Nobody says how it was decided" in copied.disclaimers[0]


def test_a_table_of_an_innocent_generator_does_not_fail():
    rng = np.random.default_rng(2)
    members, others, samples = rng.normal(size=(3, 300, 6))
    report = audit(members=members, non_members=others, samples=samples, split="random")
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.modality == "table"
    assert report.split == SplitOrigin.RANDOM.value


def test_scores_of_one_set_alone_leave_the_others_open():
    members = record_set(np.eye(30), scores={"loss": np.arange(30.0)})
    others = record_set(np.eye(30) * 2)
    found = gathered(members, others).record_scores["loss"]
    assert np.isfinite(found[:30]).all()
    assert np.isnan(found[30:]).all()


def test_ids_in_two_sets_are_two_persons_unless_the_caller_says_otherwise():
    rng = np.random.default_rng(3)
    members = record_set(rng.normal(size=(30, 4)), persons=np.arange(30) // 2)
    others = record_set(rng.normal(size=(30, 4)), persons=10 + np.arange(30) // 2)
    assert same_ids([members, others]) == 5
    apart = gathered(members, others)
    assert apart.unit is UnitOfPrivacy.PERSON
    assert not apart.excluded.any()
    shared = gathered(members, others, ids_are_shared=True)
    assert np.flatnonzero(shared.excluded).tolist() == [10, 11, 12, 13, 14, 15, 16, 17, 18, 19]


def test_a_holdout_of_namesakes_only_is_refused():
    rng = np.random.default_rng(4)
    members = record_set(rng.normal(size=(30, 4)), persons=np.arange(30))
    others = record_set(rng.normal(size=(30, 4)), persons=np.arange(30))
    with pytest.raises(InvalidParameter, match="or an id, that somebody else has"):
        gathered(members, others, ids_are_shared=True)


@pytest.mark.parametrize(
    ("records", "more", "sentence"),
    [
        (np.zeros(4), {}, "has shape"),
        (np.zeros((0, 4)), {}, "one record at least"),
        (np.zeros((4, 2)), {"scores": {"loss": np.zeros(3)}}, "'loss' must be 4 finite numbers"),
        (np.zeros((4, 2)), {"scores": {"loss": np.full(4, np.inf)}}, "finite"),
        (np.zeros((4, 2)), {"persons": ["a", "b"]}, "2 entries for 4 records"),
        (np.full((4, 2), np.nan), {}, "row 0, column 0"),
    ],
)
def test_arrays_that_are_no_set_of_records_are_refused_by_name(records, more, sentence):
    with pytest.raises(InvalidParameter, match=sentence) as refusal:
        record_set(records, name="the members", **more)
    assert str(refusal.value).startswith("the members was refused")


def test_an_unknown_depth_or_origin_is_refused():
    arrays = np.zeros((4, 2))
    with pytest.raises(ValueError, match="thorough"):
        audit(members=arrays, non_members=arrays + 1, samples=arrays, depth="thorough")
    with pytest.raises(ValueError, match="dice"):
        audit(members=arrays, non_members=arrays + 1, samples=arrays, split="dice")
