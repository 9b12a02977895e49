"""The client's calls about reader studies; `KaimaClient` inherits them."""

from collections.abc import Iterator, Mapping
from typing import Any

from service import study_resources as r
from service.connection import Connection
from service.resources import Body


class StudyCalls:
    """Plan, lock, invite, close and read studies."""

    _connection: Connection

    def create_study(self, audit_job_id: str, *, name: str, plan: Mapping[str, Any]) -> r.Study:
        """Draft a study of an audited candidate."""
        wanted = r.NewStudyPlan.model_validate(plan)
        body = r.NewStudy(audit_job_id=audit_job_id, name=name, plan=wanted)
        return self._connection.post(r.Study, "/v1/studies", body)

    def revise_study(self, study_id: str, *, name: str, plan: Mapping[str, Any]) -> r.Study:
        """Replace name and plan of a draft."""
        body = r.NewStudyDraft(name=name, plan=r.NewStudyPlan.model_validate(plan))
        return self._connection.post(r.Study, f"/v1/studies/{study_id}", body, method="PUT")

    def withdraw_reader(self, study_id: str, reader_id: str) -> r.StudyReader:
        """End a reader's part; their answers fall under the registered exclusion rule."""
        path = f"/v1/studies/{study_id}/readers/{reader_id}"
        response = self._connection.send("DELETE", path)
        return r.StudyReader.model_validate_json(response.content)

    def studies(self, *, audit_job_id: str | None = None) -> Iterator[r.StudyLine]:
        """Yield the tenant's studies, newest first."""
        return self._connection.pages(r.StudyPage, "/v1/studies", audit_job_id=audit_job_id)

    def study(self, study_id: str) -> r.Study:
        """Return a study."""
        return self._connection.get(r.Study, f"/v1/studies/{study_id}")

    def register_study(self, study_id: str) -> r.Study:
        """Lock the plan by its digest."""
        return self._on_study(study_id, "register")

    def consent_to_study(self, study_id: str, *, plan_digest: str) -> r.Study:
        """Agree, as an auditor, that held-out real records are shown."""
        return self._on_study(study_id, "consents", r.NewConsent(plan_digest=plan_digest))

    def draw_study_again(self, study_id: str) -> r.Study:
        """Queue the drawing of the cases once more after it failed."""
        return self._on_study(study_id, "draw-again")

    def invite_reader(self, study_id: str, *, name: str, days: int = 21) -> r.StudyInvitation:
        """Invite a reader; the link in the answer works once and is shown this once."""
        body = r.NewReader(name=name, days=days)
        return self._connection.post(r.StudyInvitation, f"/v1/studies/{study_id}/readers", body)

    def renew_reader_link(self, study_id: str, reader_id: str) -> r.StudyInvitation:
        """Give a reader a new link; the session of the old one ends."""
        path = f"/v1/studies/{study_id}/readers/{reader_id}/link"
        return self._connection.post(r.StudyInvitation, path, None)

    def close_study(self, study_id: str) -> r.Study:
        """End the reading, analyse it once, and lock the result."""
        return self._on_study(study_id, "close")

    def cancel_study(self, study_id: str) -> r.Study:
        """End a study without a result."""
        return self._on_study(study_id, "cancel")

    def study_result(self, study_id: str) -> r.StudyResult:
        """Return the result of a closed study."""
        return self._connection.get(r.StudyResult, f"/v1/studies/{study_id}/result")

    def study_power(self, **asked: float) -> r.StudyPower:
        """Return how likely a study of a size shows equivalence, if readers guess."""
        body = r.NewPowerQuestion.model_validate(asked)
        return self._connection.post(r.StudyPower, "/v1/studies/power", body)

    def _on_study(self, study_id: str, action: str, body: Body | None = None) -> r.Study:
        return self._connection.post(r.Study, f"/v1/studies/{study_id}/{action}", body)
