"""Calls about the policy and about what waits for an auditor."""

from collections.abc import Iterator, Mapping
from typing import Literal

from service import policy_resources as r
from service.connection import Connection


class PolicyCalls:
    """The part of the client that is about policies and the auditors' queue."""

    _connection: Connection

    def policy(self) -> r.PolicyInForce:
        """Return what new trainings commit to, every threshold explained."""
        return self._connection.get(r.PolicyInForce, "/v1/policy")

    def policy_versions(self) -> Iterator[r.ListedPolicyVersion]:
        """Yield the versions of your tenant, newest first; the shipped one is not among them."""
        return self._connection.pages(r.PolicyPage, "/v1/policies")

    def withdraw_policy(self, version: r.PolicyVersion) -> r.PolicyVersion:
        """Take a proposal back (its author)."""
        path = f"/v1/policies/{version.id}/withdraw"
        return self._connection.post(r.PolicyVersion, path, etag=f'"{version.revision}"')

    def policy_version(self, policy_id: str) -> r.PolicyVersion:
        """Return one version, what it changes and who voted."""
        return self._connection.get(r.PolicyVersion, f"/v1/policies/{policy_id}")

    def propose_policy(
        self,
        values: Mapping[str, float],
        *,
        reason: str,
        depth: Literal["quick", "full"] | None = None,
    ) -> r.PolicyVersion:
        """Propose the policy in force with other values (auditor)."""
        body = r.NewPolicy(values=dict(values), depth=depth, reason=reason)
        return self._connection.post(r.PolicyVersion, "/v1/policies", body)

    def vote_on_policy(
        self,
        version: r.PolicyVersion,
        decision: Literal["approve", "reject"],
        *,
        reason: str = "",
    ) -> r.PolicyVersion:
        """Vote on a version, bound to the revision that was read (auditor)."""
        body = r.PolicyVoteBody(decision=decision, reason=reason)
        path = f"/v1/policies/{version.id}/votes"
        return self._connection.post(r.PolicyVersion, path, body, etag=f'"{version.revision}"')

    def review_queue(self, *, mine: bool = False) -> r.ReviewQueue:
        """Return what waits for decisions (auditor)."""
        query = "?mine=true" if mine else ""
        return self._connection.get(r.ReviewQueue, f"/v1/review-queue{query}")

    def review_decisions(self) -> r.Decisions:
        """Return your votes, newest first (auditor)."""
        return self._connection.get(r.Decisions, "/v1/review-decisions")
