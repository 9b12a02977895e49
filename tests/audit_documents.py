"""What a worker stores about an audited candidate, small and invented: report, pairs, grid, utility.

Nothing of it was measured and no picture shows anybody: noise stands for images.
"""

import base64
import io
import json
from typing import Any

import numpy as np
from PIL import Image

from privacy.evidence import Finding, Metric
from privacy.mechanisms import UnitOfPrivacy
from privacy.report import AuditReport, DetectionLimit, Gate, GateStatus, SpecimenResult, Verdict
from service.domain.jobs import Job
from service.store.objects import Bucket
from service.wiring import Application

PAIRS = 3


def audit_report(
    verdict: Verdict = Verdict.PASS_EMPIRICAL, *, digest: str = "d" * 64
) -> AuditReport:
    """Return a report with this verdict."""
    status = {Verdict.FAIL: GateStatus.FAIL, Verdict.INCONCLUSIVE: GateStatus.INCONCLUSIVE}
    return AuditReport(
        modality="image",
        unit=UnitOfPrivacy.PERSON,
        tier="registered",
        policy_version="2026.3",
        policy_digest=digest,
        depth="quick",
        attempt=1,
        verdict=verdict,
        verdict_reason="Every gate that was asked for is below its tolerance."
        if verdict.passed
        else "The near-copy test fails: chance alone would do this with probability 0.0004.",
        verdicts={"near_copies": verdict, "sample_membership": Verdict.PASS_EMPIRICAL},
        gates=_gates(status.get(verdict, GateStatus.PASS)),
        findings=(_near_copies(),),
        self_test=_specimens(),
        self_test_passed=True,
        leaky_specimen=None,
        limit_of_detection=(
            DetectionLimit(
                leak="verbatim", fraction=0.01, fractions=(0.01,), rates=(1.0,), repeats=5
            ),
        ),
        epsilon_claimed=0.998,
        delta=1e-6,
        epsilon_lower_bound=0.21,
        epsilon_max_certifiable=2.8,
        epsilon_reason=None,
        epsilon_confidence=0.98,
        ceiling={"auc": 0.69},
        privacy_curve=(),
        mechanisms=(),
        units={"train": 600, "audit_in": 200, "audit_out": 200},
        records={"train": 900, "synthetic": 8000},
        provenance={},
        not_tested=("Attackers who hold the generator's gradients.",),
        disclaimers=("Looking real proves nothing.",),
    )


def store_documents(
    application: Application, audit: Job, *, verdict: Verdict = Verdict.PASS_EMPIRICAL
) -> AuditReport:
    """Store the documents of a finished audit as its worker would, and name them in its result."""
    report = audit_report(verdict, digest=application.policy.digest)
    prefix = f"candidate/{audit.id}/1/"
    documents = {
        "report": ("report.json", report.canonical()),
        "report_html": ("report.html", b"<!doctype html><h1>Privacy audit</h1><p>Curves.</p>"),
        "pairs": ("pairs.json", json.dumps([_pair(n) for n in range(PAIRS)]).encode()),
        "utility": ("utility.json", json.dumps(_utility()).encode()),
    }
    for name, body in documents.values():
        application.objects.put_bytes(Bucket.WORK, prefix + name, body=body)
    grid = f"candidate/{audit.parent_id}/1/grid.png"
    application.objects.put_bytes(Bucket.WORK, grid, body=_noise(96, seed=7))
    with application.uow() as uow:
        uow.without_trail("documents as a worker writes them")
        found = uow.get(Job, audit.id)
        assert found is not None
        found.result = {
            **found.result,
            **{key: prefix + name for key, (name, _) in documents.items()},
            "pair_count": PAIRS,
            "verdict": verdict.value,
            "summary": {"verdict": verdict.value, "epsilon_claimed": report.epsilon_claimed},
        }
    return report


def _gates(copies: GateStatus) -> tuple[Gate, ...]:
    return (
        Gate(
            name="near_copy_test",
            audit="near_copies",
            title="No sample copies a trained-on record",
            status=copies,
            value=0.0004 if copies is GateStatus.FAIL else 0.41,
            bound=0.0004 if copies is GateStatus.FAIL else 0.41,
            tolerance=0.01,
            reason="fails where the p-value is below the tolerance",
        ),
        Gate(
            name="sample_membership_auc",
            audit="sample_membership",
            title="How well members are told from non-members (AUC)",
            status=GateStatus.PASS,
            value=0.512,
            bound=0.561,
            tolerance=0.6,
            reason="passes where the upper confidence bound is below the tolerance",
        ),
        Gate(
            name="epsilon_claimed",
            audit="claim",
            title="Claimed epsilon is within the tier",
            status=GateStatus.PASS,
            value=0.998,
            bound=0.998,
            tolerance=5.0,
            reason="epsilon of this candidate, derived from its mechanisms",
        ),
    )


def _specimens() -> tuple[SpecimenResult, ...]:
    return (
        SpecimenResult(
            name="copies",
            title="One in ten units copied verbatim",
            kind="leaky",
            verdict=Verdict.FAIL,
            named_audits=("near_copies",),
            expected="FAIL by near_copies",
            passed=True,
            sample_count=1000,
            copied_count=100,
        ),
        SpecimenResult(
            name="innocent",
            title="Fresh records of units who were held out",
            kind="innocent",
            verdict=Verdict.PASS_EMPIRICAL,
            named_audits=(),
            expected="no FAIL",
            passed=True,
            sample_count=1000,
        ),
    )


def _near_copies() -> Finding:
    pairs = [
        {"sample": n, "ratio": 0.31 + n / 10, "flagged": n == 0, "train_distance": 1.0}
        for n in range(PAIRS)
    ]
    metrics = (
        Metric(name="p_value", value=0.41),
        Metric(name="copy_rate", value=0.0, ci_high=0.0009),
    )
    return Finding(audit="near_copies", metrics=metrics, details={"pairs": pairs})


def _pair(number: int) -> dict[str, Any]:
    seen = {
        name: "data:image/png;base64," + base64.b64encode(_noise(32, seed=10 * number + n)).decode()
        for n, name in enumerate(("synthetic", "trained", "held_out"))
    }
    distances = {"ratio": 0.31 + number / 10, "train_distance": 1.0, "held_out_distance": 3.2}
    return {**seen, **distances, "flagged": number == 0}


def _utility() -> dict[str, Any]:
    def scores(level: float) -> dict[str, Any]:
        names = ("accuracy", "balanced_accuracy", "auc", "qwk")
        ends = {name: [level - 0.03, level + 0.03] for name in names}
        return {**dict.fromkeys(names, level), "ci_over_test_persons": ends}

    return {
        "schema_version": 1,
        "computed": True,
        "scores": {"synthetic": scores(0.71), "real": scores(0.78)},
        "fidelity": {
            "precision": 0.6,
            "recall": 0.4,
            "coverage": 0.5,
            "diversity": 0.4,
            "fid": 21.0,
        },
    }


def _noise(side: int, *, seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side), dtype=np.uint8)
    picture = io.BytesIO()
    Image.fromarray(pixels).save(picture, "PNG")
    return picture.getvalue()
