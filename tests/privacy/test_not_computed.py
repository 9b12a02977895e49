"""What was not computed never passes: detectors that cannot run, and arrays that hold no numbers."""

import numpy as np

from privacy.copies import Config, Detector, copy_metrics
from privacy.evidence import Finding
from privacy.exact_copies import match_verbatim, natural_twins, unique_records
from privacy.neighbourhoods import population_of, survey
from privacy.policy import judge_near_copies, load_policy
from privacy.report import GateStatus
from tests.privacy.audit_material import innocent

POLICY = load_policy()


def silent(stage, done, total):
    pass


def copy_gates(evidence, rng):
    population = population_of(evidence)
    seen = survey(evidence, keep=np.empty(0, int), population=population, progress=silent)
    detector = Detector(
        seen.population,
        seen.calibration,
        sample_count=len(evidence.samples),
        config=Config(permutations=200),
        rng=rng,
    )
    twins = natural_twins(evidence)
    unique = unique_records(evidence, seen.population)
    verbatim = match_verbatim(evidence.samples, unique, like=evidence.records, twins=twins)
    copies = detector.inspect(seen.samples, verbatim)
    metrics = copy_metrics(copies, detector=detector, error=0.2, unit="units")
    finding = Finding(audit="near_copies", metrics=metrics)
    tier = POLICY.tier("enclave")
    return detector, finding, judge_near_copies(finding, None, policy=POLICY, tier=tier)


def test_copies_are_undecided_where_nearness_of_single_samples_was_never_measured():
    rng = np.random.default_rng(1)
    detector, finding, gates = copy_gates(innocent(rng, persons=95, samples=600), rng)
    assert not detector.laws
    assert finding.metric("p_arms").value is not None
    assert finding.metric("p_ratio").value is None
    assert "not measured" in finding.metric("p_ratio").reason
    assert {gate.status for gate in gates} == {GateStatus.INCONCLUSIVE}


def test_the_same_gates_pass_where_it_was_measured():
    rng = np.random.default_rng(1)
    detector, _, gates = copy_gates(innocent(rng, persons=400, samples=600), rng)
    assert detector.laws
    assert {gate.status for gate in gates} == {GateStatus.PASS}
