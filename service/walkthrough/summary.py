"""Write `summary.json`: what a walkthrough did, from the documents that its owner was shown.

The owner may see counts and measured numbers; the file is theirs (mode 0600) and is not part of a
release. A value that was not reached is null, and `exit_reason` says why.
"""

import json
import os
from pathlib import Path
from typing import Any

from privacy import accounting
from privacy.mechanisms import NeighbouringRelation, mechanisms_from_json
from service import resources as r
from service.walkthrough.steps import Record, Request
from service.walkthrough.verification import Verification

SCHEMA_VERSION = 1
STEPS = (
    "install", "start", "generate", "upload", "ingest", "train", "sample", "audit", "review",
    "package", "download", "verify",
)  # fmt: skip
PATHS = {
    "report_html": "report.html",
    "report_json": "report.json",
    "contact_sheet": "contact_sheet.png",
    "public_key": "public_key.pem",
}


def summarise(
    request: Request,
    record: Record,
    *,
    verification: Verification | None,
    seconds: dict[str, float],
    out: Path,
    exit_reason: str,
) -> dict[str, Any]:
    """Return the summary of one walkthrough, complete or not."""
    schema = request.declaration.schema
    no_images = None if request.holds_images else "the records are rows of a table"
    no_rows = None if request.holds_rows else "the records are images"
    return {
        "schema_version": SCHEMA_VERSION,
        "ok": exit_reason == "verified",
        "exit_reason": exit_reason,
        "unit": schema.unit.value,
        "neighbouring_relation": NeighbouringRelation.ADD_OR_REMOVE_ONE.value,
        "tier": request.tier,
        "policy_digest": record.report.get("policy_digest"),
        "generator": request.generator,
        "persons": _persons(request, record),
        "images": _records(record, no_images),
        "rows": _records(record, no_rows),
        "label": request.declaration.target,
        "labels": list(request.declaration.labels),
        "labels_declared_public_by": "owner",
        "epsilon": _epsilon(request, record),
        "delta": {"job": request.delta, "budget": record.budget.delta if record.budget else None},
        "mechanisms": _mechanisms(record),
        "steps": _steps(record),
        "audit": _audit(record),
        "leaky_specimen": _leaky_specimen(record),
        "release": _release(record),
        "paths": _paths(out, record),
        "verify": {
            "accepted": verification.accepted if verification else None,
            "tampered_refused": verification.tampered_refused if verification else None,
            "named_file": verification.named_file if verification else None,
        },
        "seconds": _seconds(seconds),
    }


def write_summary(path: Path, summary: dict[str, Any]) -> None:
    """Write the summary, readable by its owner only."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(summary, file, indent=2)
        file.write("\n")


def _persons(request: Request, record: Record) -> dict[str, int | None]:
    arms = record.report.get("units", {})
    train, audit_in = arms.get("train"), arms.get("audit_in")
    reference = [arms[name] for name in ("reference_a", "reference_b") if name in arms]
    return {
        "total": record.version.person_count if record.version else None,
        "declared": request.declaration.schema.declared_count,
        "train": None if train is None else train + (audit_in or 0),
        "reference": sum(reference) if reference else arms.get("reference"),
        "audit_in": audit_in,
        "audit_out": arms.get("audit_out"),
    }


def _records(record: Record, reason: str | None) -> dict[str, int | str | None]:
    """Return the counts of the records; with a reason why there are none, nulls beside it."""
    if reason is not None:
        return {"total": None, "train": None, "synthetic": None, "reason": reason}
    counts = record.report.get("records", {})
    train = counts.get("train")
    return {
        "total": record.version.record_count if record.version else None,
        "train": None if train is None else train + counts.get("audit_in", 0),
        "synthetic": counts.get("synthetic"),
    }


def _epsilon(request: Request, record: Record) -> dict[str, float | None]:
    entry = _entry(record.budget, record)
    reserved = _entry(record.reserved, record)
    mechanisms = mechanisms_from_json(_mechanisms(record))
    return {
        "requested": request.epsilon,
        "reserved": reserved.epsilon_reserved if reserved else None,
        "charged": entry.epsilon if entry else None,
        "rederived": accounting.epsilon(mechanisms, request.delta) if mechanisms else None,
        "cohort_total": record.budget.epsilon_spent if record.budget else None,
        "budget": record.budget.epsilon if record.budget else None,
    }


def _entry(budget: r.Budget | None, record: Record) -> r.BudgetEntry | None:
    if budget is None or record.train is None:
        return None
    wanted = record.train.id
    return next((entry for entry in budget.entries if entry.job_id == wanted), None)


def _mechanisms(record: Record) -> list[dict[str, Any]]:
    """Return the mechanisms as the ledger charged them: the steps that ran, not those planned."""
    entry = _entry(record.budget, record)
    if entry is None:
        return []
    charged = zip(entry.mechanisms, entry.charged_steps, strict=True)
    return [mechanism | {"steps": steps} for mechanism, steps in charged]


def _steps(record: Record) -> dict[str, int | None]:
    entry = _entry(record.budget, record)
    if entry is None:
        return {"planned": None, "taken": None}
    planned = sum(int(mechanism["steps"]) for mechanism in entry.mechanisms)
    return {"planned": planned, "taken": sum(entry.charged_steps)}


def _audit(record: Record) -> dict[str, Any]:
    report = record.report
    return {
        "verdict": report.get("verdict"),
        "verdicts": report.get("verdicts", {}),
        "epsilon_lower_bound": report.get("epsilon_lower_bound"),
        "epsilon_max_certifiable": report.get("epsilon_max_certifiable"),
        "attempt": report.get("attempt"),
        "self_test_passed": report.get("self_test_passed"),
    }


def _leaky_specimen(record: Record) -> dict[str, Any]:
    leaky = record.report.get("leaky_specimen") or {}
    return {"verdict": leaky.get("verdict"), "named_audits": leaky.get("named_audits", [])}


def _release(record: Record) -> dict[str, Any]:
    release = record.release
    if release is None:
        return {"id": None, "state": None, "version": None, "approvers_count": 0}
    approvers = sum(review.decision == "approve" for review in release.reviews)
    return {
        "id": release.id,
        "state": release.state,
        "version": release.version,
        "approvers_count": approvers,
    }


def _paths(out: Path, record: Record) -> dict[str, str | None]:
    paths = {name: out / file for name, file in PATHS.items()} | {"bundle": record.bundle}
    return {
        name: os.path.relpath(path) if path is not None and path.exists() else None
        for name, path in paths.items()
    }


def _seconds(seconds: dict[str, float]) -> dict[str, float | None]:
    found = {name: round(seconds[name], 2) if name in seconds else None for name in STEPS}
    total = sum(value for name, value in seconds.items() if name in STEPS and name != "install")
    return found | {"total": round(total, 2)}
