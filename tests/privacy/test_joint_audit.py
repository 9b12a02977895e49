"""One report about rows with images: each way to leak is named by the part that leaks."""

import json
import tomllib

import jsonschema
import numpy as np
import pytest

from privacy import pairing
from privacy.audits import load, run_battery
from privacy.battery import Order
from privacy.evidence import Finding, Metric
from privacy.joint_report import HALVED, Paired, joint_report
from privacy.parts import part_of, plain
from privacy.policy import load_policy, parse_policy, policy_file
from privacy.policy_limits import check_limits
from privacy.report import AuditReport, GateStatus, Verdict
from tests.audit_documents import audit_report
from tests.privacy.audit_material import innocent_joint, one_record_each, quick, with_pairs
from workers.published import SCHEMA

POLICY = quick(load_policy())
COPIED = 60


def audited(evidence, *, seed=0):
    rng = np.random.default_rng(seed)
    return run_battery(evidence, policy=POLICY, tier="registered", attempt=1, rng=rng)


def failed(report):
    return {gate.audit for gate in report.gates if gate.status is GateStatus.FAIL}


def paired(value=0.4):
    metric = Metric(name="p_value", value=value, reason=None if value else "too few")
    return Paired(Finding(audit=pairing.NAME, metrics=(metric,)), ())


@pytest.fixture(scope="module")
def given():
    return innocent_joint(np.random.default_rng(0), persons=60, samples=40)


def joined(given, table, images, *, found=None, problems=()):
    order = Order(POLICY, "registered", 1, {}, problems)
    return joint_report(
        table, images, found or paired(), order=order, given=given.table, looked_at=60
    )


def with_claim(report, *, bound, status=GateStatus.PASS):
    """Return a report whose evidence shows this bound on epsilon."""
    gates = [
        gate.model_copy(update={"value": bound, "status": status})
        if gate.name == "epsilon_refuted"
        else gate
        for gate in report.gates
    ]
    return report.model_copy(update={"epsilon_lower_bound": bound, "gates": tuple(gates)})


@pytest.mark.parametrize(
    ("table", "images", "expected"),
    [
        (Verdict.PASS_EMPIRICAL, Verdict.PASS_EMPIRICAL, Verdict.PASS_EMPIRICAL),
        (Verdict.FAIL, Verdict.PASS_EMPIRICAL, Verdict.FAIL),
        (Verdict.PASS_EMPIRICAL, Verdict.FAIL, Verdict.FAIL),
        (Verdict.INCONCLUSIVE, Verdict.FAIL, Verdict.FAIL),
        (Verdict.PASS_EMPIRICAL, Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE),
    ],
)
def test_the_worst_part_decides(given, table, images, expected):
    report = joined(given, audit_report(table), audit_report(images))
    assert report.verdict is expected
    assert report.modality == "joint"


@pytest.mark.parametrize("status", [GateStatus.NOT_APPLICABLE, GateStatus.NOTHING_SEEN])
@pytest.mark.parametrize(("part", "word"), [("table", "Rows"), ("images", "Images")])
def test_a_part_of_which_nothing_was_asked_is_not_passed_by_the_other_one(
    given, status, part, word
):
    silent = audit_report()
    gates = [
        gate if gate.audit in {"claim", "self_test"} else gate.model_copy(update={"status": status})
        for gate in silent.gates
    ]
    changed = {"gates": tuple(gates), "verdict": Verdict.INCONCLUSIVE, "verdict_reason": "No."}
    parts = {"table": audit_report(), "images": audit_report()}
    parts[part] = silent.model_copy(update=changed)
    report = joined(given, **parts)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.verdict_reason.startswith(f"{word} alone are INCONCLUSIVE, and the worst part")


def test_one_part_that_is_proven_does_not_prove_both(given):
    proven = audit_report(Verdict.PASS_PROVEN)
    for parts in ((proven, audit_report()), (audit_report(), proven)):
        assert joined(given, *parts).verdict is Verdict.PASS_EMPIRICAL


def test_a_pairing_that_chance_does_not_explain_fails_alone(given):
    good = audit_report()
    assert joined(given, good, good, found=paired(0.0001)).verdict is Verdict.FAIL
    assert joined(given, good, good, found=paired(0.5)).verdict.passed
    assert joined(given, good, good, found=paired(None)).verdict.passed


def test_broken_provenance_makes_both_parts_invalid(given):
    report = joined(given, audit_report(), audit_report(), problems=("the plan differs",))
    assert report.verdict is Verdict.INVALID
    assert "the plan differs" in report.verdict_reason


def test_a_self_test_that_failed_in_one_part_makes_the_report_invalid(given):
    broken = audit_report()
    wrong = broken.self_test[0].model_copy(update={"passed": False, "verdict": "INCONCLUSIVE"})
    broken = broken.model_copy(update={"self_test": (wrong, *broken.self_test[1:])})
    for parts in ((broken, audit_report()), (audit_report(), broken)):
        report = joined(given, *parts)
        assert report.verdict is Verdict.INVALID
        assert report.self_test_passed is False


def test_every_name_says_which_part_it_is_about(given):
    report = joined(given, audit_report(), audit_report())
    both = {"claim", "self_test", pairing.NAME}
    assert {part_of(gate.audit) for gate in report.gates if gate.audit not in both} == {
        "table.",
        "images.",
    }
    assert set(report.verdicts) == {
        f"{part}{name}"
        for part in ("table.", "images.")
        for name in ("near_copies", "sample_membership")
    }
    assert [plain(finding.audit) for finding in report.findings][:2] == ["near_copies"] * 2
    assert {limit.part for limit in report.limit_of_detection} == {"table", "images"}
    assert HALVED in report.disclaimers


@pytest.mark.parametrize("larger", ["table", "images"])
def test_the_larger_bound_on_epsilon_counts_whichever_part_shows_it(given, larger):
    bounds = {"table": 0.1, "images": 0.1, larger: 0.9}
    report = joined(
        given, *(with_claim(audit_report(), bound=bounds[name]) for name in ("table", "images"))
    )
    assert report.epsilon_lower_bound == 0.9


@pytest.mark.parametrize("refuted", [0, 1])
def test_a_claim_that_one_part_refutes_is_refuted(given, refuted):
    parts = [audit_report(), audit_report()]
    names = {gate.name for gate in parts[0].gates}
    if "epsilon_refuted" not in names:
        gate = parts[0].gates[0].model_copy(update={"name": "epsilon_refuted", "audit": "claim"})
        parts = [p.model_copy(update={"gates": (*p.gates, gate)}) for p in parts]
    parts[refuted] = with_claim(parts[refuted], bound=3.0, status=GateStatus.FAIL)
    report = joined(given, *parts)
    [gate] = [gate for gate in report.gates if gate.name == "epsilon_refuted"]
    assert gate.status is GateStatus.FAIL
    assert report.verdict is Verdict.FAIL


def test_a_joint_report_and_reports_of_before_keep_the_schema(given):
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    report = joined(given, audit_report(), audit_report())
    jsonschema.validate(json.loads(report.canonical()), schema)
    document = json.loads(audit_report().canonical())
    for limit in document["limit_of_detection"]:
        del limit["part"]  # as reports were written before
    jsonschema.validate(document, schema)
    assert AuditReport.model_validate(document) == audit_report()


def test_a_policy_from_before_still_reads_and_tests_pairs_at_the_same_level():
    text = policy_file().decode().replace("pairing = 0.01\n", "")
    assert "pairing" not in tomllib.loads(text)["errors"]
    old = parse_policy(text.encode(), name="old")
    check_limits(old)
    assert old.errors.pairing == load_policy().errors.pairing


@pytest.mark.slow
def test_the_rows_of_a_joint_report_are_judged_as_a_table_alone_is(small):
    """Except for epsilon, whose error is halved: rows and images share it."""
    together, alone = audited(small), audited(small.table)
    rows = [gate for gate in together.gates if gate.audit.startswith("table.")]
    assert [
        (plain(gate.name), gate.status, gate.value, gate.bound, gate.reason) for gate in rows
    ] == [
        (gate.name, gate.status, gate.value, gate.bound, gate.reason)
        for gate in alone.gates
        if gate.audit not in {"claim", "self_test"}
    ]


@pytest.mark.slow
def test_every_audit_of_rows_or_images_is_listed_with_its_part(small):
    listed = {attack.audit for attack in audited(small).attacks}
    assert {
        "table.near_copies",
        "images.near_copies",
        "images.data_copying",
        pairing.NAME,
    } <= listed
    of_tables = [n for n in ("disclosure",) if load(n).MODALITIES == ("table",)]
    assert {f"table.{name}" for name in of_tables} <= listed
    assert not {f"images.{name}" for name in of_tables} & listed


@pytest.fixture(scope="module")
def small():
    return innocent_joint(np.random.default_rng(2), persons=60, samples=80)


@pytest.fixture(scope="module")
def people():
    rng = np.random.default_rng(7)
    evidence = innocent_joint(rng, persons=440, samples=500)
    return evidence, one_record_each(evidence.table, COPIED, rng)


@pytest.mark.slow
def test_a_sound_generator_of_both_fails_nothing_and_each_control_is_judged_rightly(people):
    report = audited(people[0], seed=1)
    assert not failed(report)
    controls = {result.name: result for result in report.self_test}
    assert controls["pairing.copies"].verdict is Verdict.FAIL
    assert controls["pairing.held_out"].verdict is not Verdict.FAIL
    assert report.leaky_specimen.verdict is Verdict.FAIL
    assert {"table.near_copies", "images.near_copies"} <= set(report.leaky_specimen.named_audits)
    assert not any(result.judged_wrongly for result in report.self_test)


@pytest.mark.slow
def test_a_generator_that_pairs_copied_images_with_other_copied_rows_fails_in_both_parts(people):
    evidence, rows = people
    leaky = with_pairs(
        evidence,
        rows=evidence.table.records[rows],
        images=evidence.images.records[np.roll(rows, 1)],
    )
    report = audited(leaky)
    assert report.verdict is Verdict.FAIL
    assert {"table.near_copies", "images.near_copies"} <= failed(report)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["table", "images"])
def test_a_generator_that_copies_one_part_alone_fails_by_that_part(people, part):
    evidence, rows = people
    leaky = with_pairs(
        evidence,
        rows=evidence.table.records[rows] if part == "table" else None,
        images=evidence.images.records[rows] if part == "images" else None,
    )
    report = audited(leaky)
    assert report.verdict is Verdict.FAIL
    assert {part_of(name) for name in failed(report)} == {f"{part}."}
