"""Before a run, an owner is told whether its audit can clear it at all."""

import pytest

from privacy.foresight import about_the_audit
from privacy.inclusion import rates_for
from privacy.mechanisms import GaussianMechanism, UnitOfPrivacy
from privacy.policy import load_policy


def foreseen(declared: int, noise_multiplier: float, tier: str = "registered") -> str | None:
    mechanism = GaussianMechanism(stage="statistics", noise_multiplier=noise_multiplier)
    return about_the_audit(
        (mechanism,),
        policy=load_policy(),
        tier=tier,
        rates=rates_for(declared),
        declared=declared,
        unit=UnitOfPrivacy.PERSON,
    )


def test_few_persons_at_a_large_epsilon_are_told_how_many_would_do():
    sentence = foreseen(800, 0.5)
    assert "may end undecided" in sentence
    assert "80 persons" in sentence
    assert "about 132" in sentence


def test_enough_persons_are_told_nothing():
    assert foreseen(10_000, 0.5) is None


def test_an_epsilon_that_proves_the_tier_needs_no_measurement():
    assert foreseen(800, 30.0) is None


@pytest.mark.parametrize("tier", ["public", "enclave"])
def test_a_stricter_tier_needs_more(tier):
    assert (foreseen(2500, 0.5, tier) is not None) == (tier == "public")


def test_the_audit_of_a_table_of_rows_speaks_of_rows():
    mechanism = GaussianMechanism(stage="statistics", noise_multiplier=0.5)
    sentence = about_the_audit(
        (mechanism,),
        policy=load_policy(),
        tier="registered",
        rates=rates_for(800),
        declared=800,
        unit=UnitOfPrivacy.RECORD,
        modality="table",
    )
    assert "80 rows" in sentence
    assert "images" not in sentence
