"""Reader studies and edits for a demo that is kept: one study open, one closed, a series, a quiz.

Every step is an HTTP call by whoever may take it. Nobody looked at the pictures of the closed study:
its readers are this program and answer by coin, and the study's question says so.
"""

import re
import secrets
from typing import Any

import httpx

from service import study_resources as s
from service.domain.studies import Phase
from service.walkthrough.actors import Actors
from service.walkthrough.steps import Walkthrough

READER_LINK = "Reader's link (works once)"
_COIN_READERS = ("Reader 1, by coin", "Reader 2, by coin", "Reader 3, by coin")
_CONFIDENCES = range(1, 7)
_HIDDEN = re.compile(r'name="(csrf|phase|position)" value="([^"]*)"')
_MOST_GRADES = 9
_POLL_SECONDS = 0.3
_WAIT_SECONDS = 600.0


def make_studies(actors: Actors, walk: Walkthrough) -> None:
    """Leave a study that was closed, and one that waits for the reader whose link is kept.

    Raises: ProblemError, JobFailed and TimeoutError of the calls.
    """
    audit = walk.record.audit
    if audit is None:
        raise TimeoutError("The walkthrough reached no audited candidate.")
    labels = walk.request.declaration.labels
    closed = _opened(
        actors,
        audit.id,
        name="Answers by coin, as an example",
        plan={
            "question": "What does a result look like? A program answers by coin, nobody looks.",
            "margin": 0.2,
            "readers": len(_COIN_READERS),
            "cases_per_class": 6,
            "least_seconds": 0,  # a program is quick; in a study with people this would be wrong
        },
    )
    for name in _COIN_READERS:
        _read(actors, closed, name)
    actors.owner.close_study(closed.id)
    waiting = _opened(
        actors,
        audit.id,
        name="Residents of the first year",
        plan={
            "question": "Can residents tell the synthetic images of this candidate from real ones?",
            "readers": 2,
            "cases_per_class": 8,
            "scale": list(labels) if 2 <= len(labels) <= _MOST_GRADES else [],
            "scale_is_the_label": 2 <= len(labels) <= _MOST_GRADES,
        },
    )
    _read(actors, waiting, "Resident A", most_answers=5)
    invited = actors.auditors[0].invite_reader(waiting.id, name="Resident B")
    actors.links[READER_LINK] = invited.link


def make_edits(actors: Actors, walk: Walkthrough) -> None:
    """Leave a series and a teaching set of the published release, asked for by the collaborator."""
    release, collaborator = walk.record.release, actors.collaborator
    if release is None:
        raise TimeoutError("The walkthrough published no release.")
    asked: tuple[dict[str, Any], ...] = (
        {"form": "series", "vary": "exposure", "held": ["contrast"], "images": 6},
        {"form": "teaching_set", "vary": "label", "held": ["exposure"], "images": 8},
    )
    for one in asked:
        edit = collaborator.request_edit(release.id, **one)
        collaborator.wait_for_edit(
            edit.id, poll_seconds=_POLL_SECONDS, timeout_seconds=_WAIT_SECONDS
        )


def _opened(actors: Actors, audit_id: str, *, name: str, plan: dict[str, Any]) -> s.Study:
    """Plan, lock, have two auditors agree, and wait until a worker has drawn the cases."""
    owner = actors.owner
    study = owner.register_study(owner.create_study(audit_id, name=name, plan=plan).id)
    for auditor in actors.auditors:
        study = auditor.consent_to_study(study.id, plan_digest=str(study.plan_digest))
    owner.wait(str(study.job_id), poll_seconds=_POLL_SECONDS, timeout_seconds=_WAIT_SECONDS)
    return study


def _read(actors: Actors, study: s.Study, name: str, *, most_answers: int | None = None) -> None:
    """Invite a reader, follow the link as a browser does, and answer by coin."""
    link = actors.auditors[0].invite_reader(study.id, name=name).link
    with httpx.Client(base_url=actors.url, follow_redirects=True, timeout=30) as browser:
        page = browser.post(httpx.URL(link).path).raise_for_status().text
        given = 0
        while (form := dict(_HIDDEN.findall(page))) and given != most_answers:
            if "phase" not in form:
                page = browser.post("/read/begin", data=form).raise_for_status().text
                continue
            browser.get(f"/read/picture/{form['phase']}/{form['position']}/1.png")
            is_grading = form["phase"] == Phase.GRADING.value
            grades = range(len(study.plan["scale"]))
            chosen = secrets.choice(grades if is_grading else _CONFIDENCES)
            page = browser.post("/read/answer", data=form | {"value": str(chosen)}).text
            given += 1
