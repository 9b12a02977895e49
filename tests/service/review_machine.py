"""The review machine as a Hypothesis state machine over real operations, with several actors.

What must hold after every step is written as invariants: nothing is published without two fresh
approvals by people who had no part in it, of exactly this evidence; nobody learns what another
auditor thinks before both have voted; states change as their table says, and leave a trail.
"""

import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar

import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from service.domain.accounts import BOOTSTRAP, Actor, Role
from service.domain.errors import DomainError, PreconditionFailed
from service.domain.jobs import Job
from service.domain.notifications import Message, Notification
from service.domain.releases import TRANSITIONS, Decision, Release, ReleaseState, Review
from service.domain.reviews import Audience, Conditions
from service.domain.trail import TrailEvent
from service.operations import (
    assigning,
    commenting,
    labs,
    releases,
    renewing,
    reviewing,
    withholding,
)
from service.operations.evidence import digests
from service.store import journal, tables
from service.store.objects import Bucket
from service.store.unit_of_work import utc_now
from tests.factories import Walk, copied_clock

OPEN = {ReleaseState.SUBMITTED, ReleaseState.UNDER_REVIEW}
ACTORS = st.sampled_from(["auditor 1", "auditor 2", "auditor 3", "author's lab", "author"])
JUDGES = st.sampled_from(["auditor 1", "auditor 2", "auditor 3"])


class World:
    """One tenant with three auditors who may judge, and one of the author's lab. Made once."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        with walk.application.uow() as uow:
            insider = walk._user(uow, "auditor of the lab", Role.AUDITOR)
            for actor in (walk.owner, insider):
                labs.change_lab(uow, BOOTSTRAP, user_id=actor.user_id, lab="Knee lab")
        self.people: dict[str, Actor] = {
            "author": walk.owner,
            "author's lab": insider,
            **{f"auditor {n}": actor for n, actor in enumerate(walk.auditors, 1)},
        }
        self._audit: Job | None = None

    def audit(self) -> Job:
        """Return an audited candidate that nobody has rejected yet."""
        if self._audit is not None:
            with self.walk.application.uow(read_only=True) as uow:
                statement = sa.select(tables.releases.c.id).where(
                    tables.releases.c.audit_job_id == self._audit.id,
                    tables.releases.c.state == ReleaseState.REJECTED,
                )
                if uow.session.execute(statement).first() is None:
                    return self._audit
        version = self.walk.version(self.walk.dataset(), persons=[secrets.token_hex(8)])
        self._audit = self.walk.audited(version)
        return self._audit


class ReviewMachine(RuleBasedStateMachine):
    """One release, and everything that anybody may try with it."""

    world: World
    reached: ClassVar[set[ReleaseState]] = set()
    """States that any run has been in: a machine that gets nowhere shows nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.days = 0
        self.voted: dict[str, dict[str, Any]] = {}
        """Auditor → the evidence that their vote of this round was about."""
        self.round = 0
        self.seen_etag: str | None = None

    # What happens --------------------------------------------------------------------------------

    @initialize(start=st.sampled_from([ReleaseState.DRAFT, ReleaseState.SUBMITTED]))
    def propose(self, start: ReleaseState) -> None:
        """Propose a release."""
        self.release_id = self.world.walk.release(start, audit=self.world.audit()).id
        self.last = self.current()
        self.rows = self.trail_length()

    @rule()
    def submit(self) -> None:
        """Submit as the author."""
        self.attempt(releases.submit_release, "author", if_match=self.etag())

    @rule(who=ACTORS)
    def begin(self, who: str) -> None:
        """Begin to read."""
        self.attempt(reviewing.begin_review, who, if_match=self.etag())

    @rule(
        who=ACTORS,
        decision=st.sampled_from([Decision.APPROVE] * 4 + [Decision.RETURN, Decision.REJECT]),
        days=st.none() | st.integers(1, 5),
    )
    def vote(self, who: str, decision: Decision, days: int | None) -> None:
        """Vote; whoever is not concerned must learn nothing by it until both are in."""
        day = None if days is None else (self.now() + timedelta(days=days)).date()
        is_approval = decision is Decision.APPROVE
        before = self.what_others_hear(who)
        done = self.attempt(
            releases.review_release,
            who,
            decision=decision,
            reason="Looked at every page.",
            conditions=Conditions(text="Cite us.", expires_on=day) if is_approval else None,
            if_match=self.etag(),
        )
        if done:
            self.note_vote(who, before)

    @precondition(lambda self: self.last.state in OPEN)
    @rule(first=JUDGES, second=JUDGES, days=st.none() | st.integers(1, 5))
    def both_approve(self, first: str, second: str, days: int | None) -> None:
        """Vote twice in a row, so that approvals are not rare."""
        self.vote(who=first, decision=Decision.APPROVE, days=days)
        self.vote(who=second, decision=Decision.APPROVE, days=None)

    def note_vote(self, who: str, before: tuple[int, int]) -> None:
        """Remember what a vote was about, and that nobody heard of a first one."""
        assert who in {"auditor 1", "auditor 2", "auditor 3"}
        now = self.current()
        assert who not in self.voted or self.round != now.round
        if now.round != self.round:
            self.voted, self.round = {}, now.round
        self.voted[who] = digests(now.evidence)
        if now.state is ReleaseState.UNDER_REVIEW:
            assert self.what_others_hear(who) == before

    @rule(who=ACTORS, audience=st.sampled_from([Audience.AUDITORS, Audience.AUTHOR]))
    def comment(self, who: str, audience: Audience) -> None:
        """Say something."""
        before = self.what_others_hear(who)
        done = self.attempt(commenting.add_comment, who, text="Grade 4?", audience=audience)
        if done and audience is Audience.AUDITORS and who != "author":
            assert self.what_others_hear(who) == before

    @rule(named=st.lists(ACTORS, min_size=2, max_size=2), by=ACTORS)
    def assign(self, named: list[str], by: str) -> None:
        """Name two auditors."""
        ids = [self.world.people[name].user_id for name in named]
        done = self.attempt(assigning.assign_auditors, by, auditor_ids=ids, if_match=self.etag())
        assert not done or not {*named, by} & {"author", "author's lab"}

    @rule(who=JUDGES, to=ACTORS)
    def delegate(self, who: str, to: str) -> None:
        """Hand an assignment on."""
        target = self.world.people[to].user_id
        options = {"to": target, "reason": "On holiday.", "if_match": self.etag()}
        done = self.attempt(assigning.delegate_review, who, **options)
        assert not done or to not in {"author", "author's lab", who}

    @rule()
    def change_the_evidence(self) -> None:
        """Let a document behind the release become another one."""
        with self.world.walk.application.uow() as uow:
            uow.without_trail("the test changes what was audited")
            audit = uow.get(Job, self.current().audit_job_id, lock=True)
            assert audit is not None
            audit.result = {**audit.result, "digest": secrets.token_hex(32)}

    @precondition(lambda self: self.last.state in {ReleaseState.RETURNED, ReleaseState.APPROVED})
    @rule()
    def withdraw(self) -> None:
        """Take it back."""
        self.attempt(releases.withdraw_release, "author", reason="No.", if_match=self.etag())

    @precondition(lambda self: self.last.state is ReleaseState.APPROVED)
    @rule()
    def publish(self) -> None:
        """Publish, with a worker that packages."""
        with self.application().uow() as uow:
            try:
                job = releases.publish_release(
                    uow, self.world.walk.owner, release_id=self.release_id, if_match=self.etag()
                )
            except DomainError:
                self.look()
                return
        walk = self.world.walk
        token = walk.claim(job)
        with walk.application.uow() as uow:
            facts = releases.publication_facts(uow, job.id, token=token)
        sha256 = walk.application.objects.put_bytes(
            Bucket.QUARANTINE, facts.bundle_key, body=b"bundle"
        )
        with walk.application.uow() as uow:  # in time: a lease does not last for days
            releases.finish_publication(
                uow,
                job.id,
                token=token,
                bundle_key=facts.bundle_key,
                sha256=sha256,
                size=6,
                certificate={"epsilon": 1.0},
            )
        walk.succeed(job, token, {"bundle_key": facts.bundle_key})
        self.look()

    @precondition(lambda self: self.last.state in {ReleaseState.PUBLISHED, ReleaseState.SUSPENDED})
    @rule(how=st.sampled_from(["suspend", "reinstate", "revoke"]))
    def withhold(self, how: str) -> None:
        """Take it away, or bring it back."""
        operation = getattr(releases, f"{how}_release")
        self.attempt(operation, "author", reason="Asked to.", if_match=self.etag())

    @rule(days=st.integers(1, 4))
    def wait(self, days: int) -> None:
        """Let days pass, and the workers' beat look."""
        self.days += days
        with self.application().uow() as uow:
            withholding.expire_releases(uow)
        self.look()
        ends = self.last.expires_at
        if ends is not None and ends <= self.now():
            assert self.last.state in {ReleaseState.EXPIRED, ReleaseState.REVOKED}

    @precondition(lambda self: self.last.state is ReleaseState.EXPIRED)
    @rule()
    def renew(self) -> None:
        """Propose the next version and go on with it; the old one stays expired."""
        walk = self.world.walk
        with self.application().uow() as uow:
            try:
                made = renewing.renew_release(uow, walk.owner, release_id=self.release_id)
            except DomainError:
                return
        assert made.state is ReleaseState.DRAFT
        self.release_id, self.voted, self.round = made.id, {}, 0
        self.last, self.rows = self.current(), self.trail_length()

    @rule(who=JUDGES)
    def vote_on_what_was_read_long_ago(self, who: str) -> None:
        """Vote with a revision that is not the current one: always refused."""
        try:
            with self.application().uow() as uow:
                releases.review_release(
                    uow,
                    self.world.people[who],
                    release_id=self.release_id,
                    decision=Decision.APPROVE,
                    reason="r",
                    if_match='"0"',
                )
        except PreconditionFailed:
            assert self.last.state in OPEN
        except DomainError:
            pass
        else:
            raise AssertionError("a stale If-Match was accepted")
        self.look()

    # What must hold ------------------------------------------------------------------------------

    @invariant()
    def nothing_is_published_without_two_fresh_uninvolved_approvals_of_this_evidence(self) -> None:
        """Look at the votes in the database, and at what they were about."""
        if self.last.state is not ReleaseState.PUBLISHED:
            return
        with self.application().uow(read_only=True) as uow:
            statement = sa.select(Review).where(
                tables.reviews.c.release_id == self.release_id,
                tables.reviews.c.round == self.last.round,
            )
            votes = list(uow.session.execute(statement).scalars())
        assert len({vote.auditor_id for vote in votes}) == 2
        assert {vote.decision for vote in votes} == {Decision.APPROVE}
        judges = {actor.user_id for actor in self.world.walk.auditors}
        assert {vote.auditor_id for vote in votes} <= judges
        assert self.round == self.last.round
        assert len(self.voted) == 2
        assert all(about == digests(self.last.evidence) for about in self.voted.values())

    @invariant()
    def nobody_learns_what_another_auditor_thinks_before_both_have_voted(self) -> None:
        """Ask for everything that an auditor can read about the release."""
        if self.last.state not in OPEN:
            return
        for actor in self.world.walk.auditors[1:]:
            with self.application().uow(read_only=True) as uow:
                view = releases.get_release(uow, actor, release_id=self.release_id)
                comments = commenting.list_comments(uow, actor, release_id=self.release_id)
                trail = releases.list_trail(uow, actor, release_id=self.release_id)
            mine = [vote for vote in view.reviews if vote.round == self.last.round]
            assert all(vote.auditor_id == actor.user_id for vote in mine)
            assert view.votes_cast == len(mine)
            others = [
                comment
                for comment in comments
                if comment.round == self.last.round and comment.author_id != actor.user_id
            ]
            assert all(comment.audience is Audience.EVERYBODY for comment in others)
            shown = {comment.id for comment in comments}
            for row in (row["body"] for row in trail):
                own = row["actor"] == actor.user_id
                if row["event"] == TrailEvent.RELEASE_REVIEW.value:
                    assert own or row["details"]["round"] < self.last.round
                if row["event"] == TrailEvent.RELEASE_COMMENT.value:
                    assert row["details"]["comment"] in shown

    # Inside --------------------------------------------------------------------------------------

    def application(self) -> Any:
        """Return the application, as many days later as have passed."""
        return copied_clock(self.world.walk.application, self.now)

    def now(self) -> Any:
        """Return the present moment of this run."""
        return utc_now() + timedelta(days=self.days)

    def etag(self) -> str:
        """Return the current revision."""
        return self.current().etag

    def current(self) -> Release:
        """Return the release as it is."""
        with self.world.walk.application.uow(read_only=True) as uow:
            found = uow.get(Release, self.release_id)
        assert found is not None
        return replace(found)

    def attempt(self, operation: Callable[..., Any], who: str, **options: Any) -> bool:
        """Try an operation as somebody; tell whether it was done, and look at what it did."""
        actor = self.world.people[who]
        try:
            with self.application().uow() as uow:
                operation(uow, actor, release_id=self.release_id, **options)
            done = True
        except DomainError:
            done = False
        self.look()
        return done

    def look(self) -> None:
        """Check the step from the last state to this one: allowed, and in the trail."""
        now, rows = self.current(), self.trail_length()
        if now.state is not self.last.state:
            assert now.state in TRANSITIONS[self.last.state], (self.last.state, now.state)
        if now.revision != self.last.revision:
            assert rows > self.rows
        self.last, self.rows = now, rows
        self.reached.add(now.state)

    def trail_length(self) -> int:
        """Count the release's rows in the journal."""
        with self.world.walk.application.uow(read_only=True) as uow:
            return sum(1 for _ in journal.read_rows(uow.session, subject=self.release_id))

    def what_others_hear(self, who: str) -> tuple[int, int]:
        """Count other people's notices, and what leaves the instance."""
        with self.world.walk.application.uow(read_only=True) as uow:
            notices = sa.select(sa.func.count()).select_from(Notification)
            notices = notices.where(
                Notification.user_id != self.world.people[who].user_id  # type: ignore[arg-type]
            )
            sent = sa.select(sa.func.count()).select_from(Message)
            return (
                int(uow.session.execute(notices).scalar_one()),
                int(uow.session.execute(sent).scalar_one()),
            )
