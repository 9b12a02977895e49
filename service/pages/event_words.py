"""Say what a row of the trail or the ledger tells: a verb for each event, and how it stands out."""

from typing import Any

from service.domain.trail import LedgerEvent, TrailEvent

_WORDS: dict[str, str] = {
    TrailEvent.DATASET_CREATE: "created the dataset and its budget",
    TrailEvent.VERSION_START_UPLOAD: "began an upload",
    TrailEvent.VERSION_UPLOAD: "uploaded a version",
    TrailEvent.VERSION_INGEST: "checked the upload and took it in",
    TrailEvent.VERSION_REFUSE: "refused the upload",
    TrailEvent.VERSION_ERASE_RAW: "erased the uploaded file",
    TrailEvent.VERSION_ERASE: "erased the version's records",
    TrailEvent.PERSON_WITHDRAW: "withdrew a person",
    TrailEvent.PERSON_ERASE: "erased the withdrawn person's records",
    TrailEvent.JOB_REQUEST: "asked for a run",
    TrailEvent.JOB_COMMIT_PLAN: "committed the plan before the run",
    TrailEvent.JOB_CLAIM: "took the run",
    TrailEvent.JOB_REQUEUE: "put the run back in the queue",
    TrailEvent.JOB_CANCEL_REQUEST: "asked to cancel the run",
    TrailEvent.JOB_CANCEL: "cancelled the run",
    TrailEvent.JOB_SUCCEED: "finished the run",
    TrailEvent.JOB_FAIL: "ended the run: it failed",
    TrailEvent.REPORT_READ: "read the audit report",
    TrailEvent.REPORT_VIEW_PAIR: "looked at a pair of near-copies",
    TrailEvent.REPORT_ERASE_PICTURES: "erased the report's pictures",
    TrailEvent.RELEASE_CREATE: "proposed the release",
    TrailEvent.RELEASE_REVISE: "changed the draft",
    TrailEvent.RELEASE_SUBMIT: "submitted it; the evidence was frozen",
    TrailEvent.RELEASE_REVIEW: "voted, sealed",
    TrailEvent.RELEASE_REVEAL_VOTE: "opened a vote",
    TrailEvent.RELEASE_RESET_VOTES: "voided the votes: the evidence had changed",
    TrailEvent.RELEASE_REQUEST_PUBLICATION: "asked to publish it",
    TrailEvent.RELEASE_PUBLISH: "published it",
    TrailEvent.RELEASE_SUSPEND: "suspended it",
    TrailEvent.RELEASE_REINSTATE: "brought it back",
    TrailEvent.RELEASE_REVOKE: "revoked it",
    TrailEvent.RELEASE_EXPIRE: "let it expire",
    TrailEvent.RELEASE_WITHDRAW: "withdrew it",
    TrailEvent.RELEASE_MOVE_BUNDLE: "moved the bundle",
    TrailEvent.RELEASE_AUDIT_AGAIN: "had it audited again",
    TrailEvent.TERMS_ACCEPT: "accepted the terms",
    TrailEvent.RELEASE_DOWNLOAD: "was handed a link to download it",
    LedgerEvent.OPEN: "opened the budget",
    LedgerEvent.RESERVE: "reserved ε for the run",
    LedgerEvent.CHARGE: "charged blocks of steps before they ran",
    LedgerEvent.CLOSE: "closed the run's account; what it did not use went back",
}
_KINDS: dict[str, str] = {
    TrailEvent.RELEASE_PUBLISH: "good",
    TrailEvent.RELEASE_REINSTATE: "good",
    TrailEvent.RELEASE_SUSPEND: "wait",
    TrailEvent.RELEASE_SUBMIT: "wait",
    TrailEvent.RELEASE_RESET_VOTES: "bad",
    TrailEvent.RELEASE_REVOKE: "bad",
    TrailEvent.JOB_FAIL: "bad",
    TrailEvent.VERSION_REFUSE: "bad",
}
_NAMES = {"system": "Kaima", "bootstrap": "The operator at the machine"}


def event_words(event: str) -> str:
    """Return what somebody did, after their name."""
    return _WORDS.get(event) or event.replace("_", " ").replace(":", ": ")


def event_kind(event: str) -> str:
    """Return how an event stands out on a timeline: good, wait, bad, or not."""
    return _KINDS.get(event, "")


def actor_words(actor: str | None, users: dict[str, str]) -> str:
    """Return who acted; the ledger's rows are the service's own."""
    return users.get(actor or "system") or _NAMES.get(actor or "system") or str(actor)


def detail_rows(details: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the evidence that a row names, one line each."""
    rows: list[tuple[str, str]] = []
    for name, value in details.items():
        words = name.replace("_", " ")
        if isinstance(value, dict):
            rows += [(f"{words}, {inner}", text) for inner, text in detail_rows(value)]
        elif isinstance(value, list):
            rows.append((words, _list_words(value)))
        elif value not in (None, ""):
            rows.append((words, str(value)))
    return rows


def _list_words(values: list[Any]) -> str:
    if any(isinstance(value, dict) for value in values):
        return ", ".join(str(value.get("kind", "…")) for value in values)
    return ", ".join(map(str, values)) or "none"
