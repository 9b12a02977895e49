"""Put an audited candidate's stored documents into the shape that pages show."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from privacy.evidence import Finding
from privacy.parts import WORDS as PARTS
from privacy.parts import part_of, plain
from privacy.report import AuditReport, Gate, GateStatus
from service import documents
from service.domain.accounts import Actor
from service.domain.datasets import Dataset, DeclaredSchema
from service.domain.errors import NotFound
from service.domain.jobs import Job
from service.operations import jobs
from service.pages.schema_words import unit_name
from service.pages.session import blueprint
from service.store.unit_of_work import UnitOfWork

STATUS_WORDS: dict[GateStatus, tuple[str, str]] = {
    GateStatus.FAIL: ("failed", "bad"),
    GateStatus.INCONCLUSIVE: ("undecided", "wait"),
    GateStatus.PASS: ("passed", "good"),
    GateStatus.PROVEN: ("proven", "good"),
    GateStatus.NOT_APPLICABLE: ("not asked", ""),
    GateStatus.NOTHING_SEEN: ("nothing seen", ""),
}
AUDIT_TITLES = {
    "near_copies": "near-copies",
    "sample_membership": "membership, from the samples alone",
    "loss_membership": "membership, from the generator",
    "gradient_membership": "membership, from gradients",
    "reidentification": "re-identification",
    "data_copying": "data copying",
    "pairing": "image and row of one person, together",
    "claim": "the claimed epsilon",
    "self_test": "the audit itself",
}
VERDICT_KINDS = {
    "PASS-PROVEN": "good",
    "PASS-EMPIRICAL": "good",
    "INCONCLUSIVE": "wait",
    "FAIL": "bad",
    "INVALID": "bad",
}
_GRAVITY = list(GateStatus)  # declared from the gravest on


@dataclass(frozen=True)
class GateRow:
    """One line of the table of gates."""

    name: str
    title: str
    audit: str
    word: str
    kind: str
    value: float | None
    bound: float | None
    tolerance: float | None
    reason: str


@dataclass(frozen=True)
class PairRow:
    """What is known of a suspicious pair before anybody looks at it."""

    number: int
    is_flagged: bool
    ratio: float | None


@dataclass(frozen=True)
class Candidate:
    """One audited set of samples with everything that was stored about it.

    `report` is None where its document is gone; `missing` then says why.
    """

    audit: Job
    sample: Job | None
    training: Job | None
    dataset: Dataset
    report: AuditReport | None
    missing: str
    utility: dict[str, Any]
    grid_job_id: str | None
    sample_rows: dict[str, Any] | None

    @property
    def unit(self) -> str:
        """Return the word for whose presence is hidden."""
        return unit_name(self.schema)

    @property
    def schema(self) -> DeclaredSchema:
        """Return what is declared of the records."""
        return self.dataset.schema

    @property
    def payload(self) -> dict[str, Any]:
        """Return what the training was asked for."""
        return self.training.payload if self.training else {}

    @property
    def verdict(self) -> str:
        """Return the verdict that the audit came to."""
        return str(self.audit.result.get("verdict", ""))

    @property
    def gates(self) -> list[GateRow]:
        """Return the gates, the gravest first."""
        if self.report is None:
            return []
        ordered = sorted(self.report.gates, key=lambda gate: _GRAVITY.index(gate.status))
        ordered.sort(key=lambda gate: gate.status is GateStatus.NOT_APPLICABLE)
        return [_gate_row(gate, self.unit) for gate in ordered]

    @property
    def pairs(self) -> list[PairRow]:
        """Return what may be said of each suspicious pair without showing it."""
        count = int(self.audit.result.get("pair_count", 0))
        known: list[Any] = []
        for part in ("", *PARTS):  # in the order in which an audit lists them
            finding = self._finding(f"{part}near_copies")
            listed = finding.details.get("pairs") if finding else None
            known += listed if isinstance(listed, list) else []
        rows = []
        for number in range(1, count + 1):
            about = known[number - 1] if number <= len(known) else {}
            rows.append(PairRow(number, bool(about.get("flagged")), about.get("ratio")))
        return rows

    @property
    def epsilon_marks(self) -> list[tuple[str, float, str]]:
        """Return name, value and kind of what is known of epsilon, for a picture of them."""
        if self.report is None:
            return []
        marks = (
            ("measured, at least", self.report.epsilon_lower_bound, "measured"),
            ("most this audit could show", self.report.epsilon_max_certifiable, "reach"),
            ("claimed, at most", self.report.epsilon_claimed, "claimed"),
        )
        return [(name, value, kind) for name, value, kind in marks if value is not None]

    def _finding(self, audit: str) -> Finding | None:
        found = self.report.findings if self.report else ()
        return next((finding for finding in found if finding.audit == audit), None)


def load_candidate(uow: UnitOfWork, actor: Actor, *, audit_job_id: str) -> Candidate:
    """Read everything about a candidate; that its report was read goes into the trail.

    Raises: NotFound, PermissionDenied.
    """
    audit = jobs.find_audit(uow, actor, audit_job_id=audit_job_id)
    dataset = uow.get(Dataset, audit.dataset_id)
    if dataset is None:
        raise NotFound(f"No dataset of job {audit_job_id!r} was found.")
    sample = uow.get(Job, str(audit.payload.get("sample_job_id") or audit.parent_id))
    training = uow.get(Job, str(audit.payload["train_job_id"]))
    report, missing = _report(uow, actor, audit)
    return Candidate(
        audit=audit,
        sample=sample,
        training=training,
        dataset=dataset,
        report=report,
        missing=missing,
        utility=documents.read_utility(uow, audit),
        grid_job_id=sample.id if sample and documents.grid_key(uow, sample) else None,
        sample_rows=documents.read_sample_rows(uow, sample),
    )


def _report(uow: UnitOfWork, actor: Actor, audit: Job) -> tuple[AuditReport | None, str]:
    try:
        raw = documents.read_report(uow, actor, audit_job_id=audit.id, form="report")
        return AuditReport.model_validate(json.loads(raw)), ""
    except NotFound as error:
        return None, error.sentence
    except (ValidationError, ValueError):
        return None, (
            f"The report of job {audit.id} cannot be read by this version of the service. "
            "Audit the candidate again."
        )


def _gate_row(gate: Gate, unit: str) -> GateRow:
    word, kind = STATUS_WORDS[gate.status]
    return GateRow(
        name=gate.name,
        title=in_units(gate.title, unit),
        audit=_audit_title(gate.audit),
        word=word,
        kind=kind,
        value=gate.value,
        bound=gate.bound,
        tolerance=gate.tolerance,
        reason=in_units(gate.reason, unit),
    )


def _audit_title(name: str) -> str:
    own = plain(name)
    title = AUDIT_TITLES.get(own, own.replace("_", " "))
    return f"{PARTS[part_of(name)].lower()}: {title}" if part_of(name) else title


def in_units(text: str, unit: str) -> str:
    """Return text about units with the word for the protected unit."""
    return text.replace("units", unit + "s").replace("unit", unit)


def flat(values: Mapping[str, Any], *, under: str = "") -> dict[str, str]:
    """Return the leaves of a configuration by their dotted names, as text."""
    found: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, under=f"{under}{name}.")
        else:
            found[f"{under}{name}"] = "–" if value is None else str(value)
    return found


@blueprint.app_template_filter("flat")
def flat_items(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the leaves of a configuration in their order."""
    return list(flat(values).items())
