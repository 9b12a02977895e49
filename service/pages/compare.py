"""Two candidates side by side: what is promised, shown, useful and asked for, and where they differ."""

import re
from dataclasses import dataclass
from typing import Any

from flask import render_template, request

from service.domain.errors import InputRefused
from service.domain.permissions import check_may_see_release
from service.domain.releases import Release
from service.operations import review_queue
from service.operations.review_queue import check_may_see_queue
from service.pages.evidence import VERDICT_KINDS, Candidate, flat, load_candidate
from service.pages.session import actor, blueprint
from service.pages.words import number
from service.resources import IDENTIFIER_PATTERN
from service.store.unit_of_work import UnitOfWork
from service.web import application

_SCORES = (
    ("accuracy", "Accuracy"),
    ("balanced_accuracy", "Balanced accuracy"),
    ("auc", "AUC of the classifier"),
    ("qwk", "Weighted kappa"),
)
_FIDELITY = (
    ("precision", "Precision"),
    ("recall", "Recall"),
    ("coverage", "Coverage"),
    ("diversity", "Diversity"),
    ("fid", "FID"),
)


@dataclass(frozen=True)
class Line:
    """One thing of both candidates, as text; `note` says more of it than fits the name."""

    name: str
    left: str
    right: str
    note: str = ""

    @property
    def differs(self) -> bool:
        """Tell whether the two are not the same."""
        return self.left != self.right


@dataclass(frozen=True)
class Side:
    """A candidate and the release that proposes it, if one does."""

    candidate: Candidate
    release: Release | None

    @property
    def name(self) -> str:
        """Return what to call it."""
        if self.release is None:
            return f"Audit {self.candidate.audit.id}"
        return f"{self.release.name} {self.release.version}"


@blueprint.get("/review/compare")
def compare_candidates() -> str:
    """Compare two releases or audits; without both, ask which."""
    asked = [request.args.get(name, "").strip() for name in ("a", "b")]
    if not all(asked):
        return _choose(asked)
    for value in asked:
        if not re.fullmatch(IDENTIFIER_PATTERN, value):
            raise InputRefused(f"The candidate {value[:60]!r} was refused: it is no identifier.")
    with application().uow() as uow:
        check_may_see_queue(actor())
        left, right = (_side(uow, value) for value in asked)
    return render_template(
        "review_compare.html",
        nav="review",
        left=left,
        right=right,
        kinds=VERDICT_KINDS,
        parts_of_page=[
            ("Promise and verdict", _promise(left, right)),
            ("Gates: upper bound against what is allowed", _gates(left, right)),
            ("Usefulness", _utility(left, right)),
            ("What was asked for", _config(left, right)),
            ("Chain of digests", _digests(left, right)),
        ],
    )


def _choose(asked: list[str]) -> str:
    with application().uow(read_only=True) as uow:
        waiting = review_queue.list_waiting(uow, actor())
    choices = [item for item in waiting if item.kind == "release"]
    return render_template("review_compare_choose.html", nav="review", choices=choices, asked=asked)


def _side(uow: UnitOfWork, asked: str) -> Side:
    """Return a candidate by its release or by its audit job.  Raises: NotFound."""
    if not asked.startswith("rel"):
        return Side(load_candidate(uow, actor(), audit_job_id=asked), None)
    release = check_may_see_release(actor(), uow.get(Release, asked), asked=asked)
    return Side(load_candidate(uow, actor(), audit_job_id=release.audit_job_id), release)


def _promise(left: Side, right: Side) -> list[Line]:
    def said(side: Side) -> dict[str, str]:
        candidate, report = side.candidate, side.candidate.report
        found = {
            "Verdict": candidate.verdict or "–",
            "Tier": str(candidate.audit.payload.get("tier", "–")),
            "Dataset": candidate.dataset.name,
        }
        if report is None:
            return found
        return found | {
            "Claimed ε": number(report.epsilon_claimed),
            "δ": number(report.delta),
            "ε is at least": number(report.epsilon_lower_bound),
            "Most that could be shown": number(report.epsilon_max_certifiable),
            "Attempt": str(report.attempt),
            "Battery": report.depth,
            "Policy": report.policy_version,
        }

    return _lines(said(left), said(right))


def _gates(left: Side, right: Side) -> list[Line]:
    def said(side: Side) -> dict[str, str]:
        return {
            gate.title: f"{gate.word}: {number(gate.bound)} of {number(gate.tolerance)}"
            for gate in side.candidate.gates
        }

    return _lines(said(left), said(right))


def _utility(left: Side, right: Side) -> list[Line]:
    def said(side: Side) -> dict[str, str]:
        found = side.candidate.utility
        # Of rows with images, each part has a document of its own.
        rows, images = found.get("table", found), found.get("images", found)
        lines = _of_rows(rows) if side.candidate.schema.modality != "image" else {}
        if side.candidate.schema.modality != "table":
            lines |= _of_images(images)
        matched = found.get("match", {}).get("scores", {}).get("synthetic", {})
        if matched:
            lines["Cells read from images"] = number(matched.get("balanced_accuracy"))
        return lines

    return _lines(said(left), said(right))


def _of_images(found: dict[str, Any]) -> dict[str, str]:
    if not found.get("computed"):
        return {}
    scores = found.get("scores", {}).get("synthetic", {})
    fidelity = found.get("fidelity", {})
    lines = {words: _with_ends(scores, name) for name, words in _SCORES}
    return lines | {words: number(fidelity.get(name)) for name, words in _FIDELITY}


def _of_rows(found: dict[str, Any]) -> dict[str, str]:
    if not found.get("computed"):
        return {}
    distances = found.get("to_held_out", {}).get("synthetic", ())
    lines = {
        f"Distance of {one['way']} column{'s' if one['way'] > 1 else ''}": number(one["mean"])
        for one in distances
    }
    return lines | {"Told apart from real": number(found.get("told_apart", {}).get("value"))}


def _with_ends(scores: dict[str, object], name: str) -> str:
    value, ends = scores.get(name), scores.get("ci_over_test_persons")
    if not isinstance(value, int | float):
        return "–"
    span = ends.get(name) if isinstance(ends, dict) else None
    return f"{value:.3f}" + (f" ({span[0]:.3f} to {span[1]:.3f})" if span else "")


def _config(left: Side, right: Side) -> list[Line]:
    def said(side: Side) -> dict[str, str]:
        payload = side.candidate.payload
        asked = {
            name: str(payload[name])
            for name in ("generator", "preset", "samples")
            if payload.get(name) is not None
        }
        return asked | flat(payload.get("config", {}))

    return _lines(said(left), said(right))


def _digests(left: Side, right: Side) -> list[Line]:
    def said(side: Side) -> dict[str, str]:
        candidate = side.candidate
        jobs = {"generator": candidate.training, "samples": candidate.sample}
        found = {
            name: str(job.result.get("digest", "–"))
            for name, job in jobs.items()
            if job is not None
        }
        policy = str(candidate.payload.get("policy_digest", "–"))
        return found | {
            "report": str(candidate.audit.result.get("digest", "–")),
            "policy": policy,
            "commitment": str(candidate.payload.get("commitment", "–")),
        }

    return _lines(said(left), said(right))


def _lines(left: dict[str, str], right: dict[str, str]) -> list[Line]:
    """Pair two lists by name, in the order of the first."""
    names = [*left, *(name for name in right if name not in left)]
    return [Line(name, left.get(name, "–"), right.get(name, "–")) for name in names]
