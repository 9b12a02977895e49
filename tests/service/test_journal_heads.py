"""What the journal's signed heads and proofs show to somebody who has the public key alone."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.orm import Session

from privacy.signing import public_key_pem
from service.cli import kaima
from service.domain import journal_heads
from service.domain.errors import InputRefused, NotFound
from service.domain.journal_heads import ProofRefused
from service.domain.releases import ReleaseState
from service.operations import datasets, releases
from service.operations import journal as operation
from service.operations import journal_heads as heads
from service.store import journal, journal_proof, journal_tree, tables
from service.store.journal_tables import journal_nodes
from service.store.objects import Bucket
from tests.databases import fresh_database
from tests.factories import Walk
from tests.service.test_journal import rewrite, tamper, truncate


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield an empty database of each kind: what is tested here depends on it."""
    with fresh_database(request.param, request) as url:
        yield url


@dataclass
class Stranger:
    """Somebody who has the public key and what the service handed out, and nothing else."""

    key: Any

    def accepts(self, document: dict[str, Any]) -> bool:
        """Tell whether a head or proof holds."""
        try:
            journal_heads.check(json.loads(json.dumps(document)), key=self.key)
        except ProofRefused:
            return False
        return True


@pytest.fixture
def stranger(walk: Walk) -> Stranger:
    """Return a stranger who was told the service's public key."""
    return Stranger(walk.application.signing_key().public_key())


def head_of(walk: Walk) -> dict[str, Any]:
    """Return the present head, as anybody may ask for it."""
    with walk.application.uow(read_only=True) as uow:
        return heads.get_head(uow, walk.collaborator)


def problems(walk: Walk, *kept: dict[str, Any]) -> list[str]:
    """Verify without any anchor, against heads that were exported before."""
    known = [journal_proof.read_head(json.dumps(head).encode(), place="kept") for head in kept]
    with walk.application.uow(read_only=True) as uow:
        return operation.verify(uow, with_anchors=False, heads=known)


def test_every_row_is_proven_under_every_later_head(walk: Walk, stranger: Stranger) -> None:
    for _ in range(3):
        walk.dataset()
    with walk.application.uow(read_only=True) as uow:
        rows = list(journal.read_rows(uow.session))
        for row in rows:
            proof = heads.proof_of(uow, row, with_text=True)
            assert stranger.accepts(proof)
            assert not stranger.accepts({**proof, "seq": proof["seq"] % len(rows) + 1})
            assert not stranger.accepts({**proof, "row": proof["row"] + " "})
            assert not stranger.accepts({**proof, "path": proof["path"][:-1]})


def test_a_proof_is_made_from_few_stored_hashes(walk: Walk) -> None:
    with Session(walk.application.engine) as session:
        entries = [journal.Entry("trail", "x", {"event": "e", "n": n}) for n in range(1000)]
        size = journal.append(session, entries, at=walk.application.parts.clock()).seq
        nodes = session.execute(sa.select(sa.func.count()).select_from(journal_nodes))
        assert nodes.scalar_one() < size
        assert len(journal_tree.inclusion_path(session, 500, size=size)) <= 11
        assert len(journal_tree.consistency_path(session, 500, new=size)) <= 12


def test_what_grew_is_proven_consistent_and_a_fork_cannot_be(
    walk: Walk, stranger: Stranger
) -> None:
    walk.dataset()
    old = head_of(walk)
    walk.dataset()
    with walk.application.uow(read_only=True) as uow:
        proof = heads.consistency_with(uow, old)
    assert stranger.accepts(proof)
    assert stranger.accepts(journal_heads.about({**proof, "old": {"size": old["size"]}}, old))
    assert not stranger.accepts({**proof, "old": {"size": old["size"]}})
    tamper(walk.application, lambda session: rewrite(session, after=3))
    with walk.application.uow(read_only=True) as uow:
        assert not stranger.accepts(heads.consistency_with(uow, old))
    assert [sentence for sentence in problems(walk, old) if "forked or rewritten" in sentence]


def test_a_cut_tail_is_found_by_an_exported_head_although_the_head_row_was_cut_too(
    walk: Walk,
) -> None:
    walk.dataset()
    old = head_of(walk)
    tamper(walk.application, lambda session: truncate(session, keep=old["size"] - 1))
    assert problems(walk) == []
    assert "the journal was truncated" in problems(walk, old)[0]
    with (
        walk.application.uow(read_only=True) as uow,
        pytest.raises(InputRefused, match="the journal was truncated"),
    ):
        heads.prove_consistency(uow, walk.collaborator, old_size=old["size"])


def test_a_stored_head_shows_a_cut_of_rows_that_no_anchor_held(sqlite_walk: Walk) -> None:
    with sqlite_walk.application.uow() as uow:
        assert heads.store_head_if_due(uow) == 0  # this machine has no signing key yet
        sqlite_walk.application.signing_key()
        assert heads.store_head_if_due(uow) == 1
        assert heads.store_head_if_due(uow) == 0
    (key,) = sqlite_walk.application.objects.list_keys(Bucket.JOURNAL, journal_proof.HEADS)
    with sqlite_walk.application.uow(read_only=True) as uow:
        assert operation.verify(uow) == []
    tamper(sqlite_walk.application, lambda session: truncate(session, keep=2))
    with sqlite_walk.application.uow(read_only=True) as uow:
        (sentence,) = operation.verify(uow)
    assert key in sentence
    sqlite_walk.application.objects.put_bytes(Bucket.JOURNAL, key, body=b"{}")
    with sqlite_walk.application.uow(read_only=True) as uow:
        (sentence,) = operation.verify(uow)
    assert "missing or damaged" in sentence


CHANGES: dict[str, Callable[[Session], object]] = {
    "a changed node": lambda session: session.execute(
        sa.update(journal_nodes).where(journal_nodes.c.level == 2).values(digest=bytes(32))
    ),
    "a missing node": lambda session: session.execute(
        sa.delete(journal_nodes).where(journal_nodes.c.level == 1, journal_nodes.c.position == 0)
    ),
    "a relabelled event": lambda session: session.execute(
        sa.update(tables.journal).where(tables.journal.c.seq == 2).values(event="tenant:create")
    ),
    "a relabelled actor": lambda session: session.execute(
        sa.update(tables.journal).where(tables.journal.c.seq == 2).values(actor="usr_other")
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_verify_compares_the_tree_and_the_columns_with_the_rows(
    sqlite_walk: Walk, name: str
) -> None:
    tamper(sqlite_walk.application, CHANGES[name])
    (sentence,) = problems(sqlite_walk)
    assert ("kaima journal rebuild" in sentence) == ("node" in name)
    if "node" in name:
        with sqlite_walk.application.uow() as uow:
            assert heads.rebuild_tree(uow) == head_of(sqlite_walk)["size"]
        assert problems(sqlite_walk) == []


def test_a_head_of_another_key_or_with_another_number_is_refused(
    sqlite_walk: Walk,
) -> None:
    head = head_of(sqlite_walk)
    own = Stranger(sqlite_walk.application.signing_key().public_key())
    other = Stranger(Ed25519PrivateKey.generate().public_key())
    assert own.accepts(head)
    assert not other.accepts(head)
    for change in ({"size": head["size"] + 1}, {"root": "0" * 64}, {"signature": "AAAA"}):
        assert not own.accepts({**head, **change})
    forged = {**head, "size": head["size"] - 1}
    assert "its signature does not fit" in problems(sqlite_walk, forged)[0]


def test_erasure_and_withdrawal_leave_rows_and_proofs_verifiable(
    sqlite_walk: Walk,
) -> None:
    walk, dataset = sqlite_walk, sqlite_walk.dataset()
    version = walk.version(dataset, persons=["p1", "p2"])
    stranger = Stranger(walk.application.signing_key().public_key())
    with walk.application.uow(read_only=True) as uow:
        (row, *_) = list(journal.read_rows(uow.session, subject=version.id))
        before, kept = heads.proof_of(uow, row, with_text=True), heads.sign_head(uow)
    with walk.application.uow() as uow:
        job = datasets.withdraw_person(uow, walk.owner, dataset_id=dataset.id, patient_id="p1")
    token = walk.claim(job)
    with walk.application.uow() as uow:
        manifest = walk.manifest(dataset, job.payload["number"], 1)
        datasets.finish_erase(uow, job.id, token=token, manifest=manifest)
    walk.succeed(job, token, {"digest": manifest.digest()})
    with walk.application.uow(read_only=True) as uow:
        assert (
            operation.verify(
                uow, heads=[journal_proof.read_head(json.dumps(kept).encode(), place="kept")]
            )
            == []
        )
        assert stranger.accepts(heads.consistency_with(uow, kept))
        after = heads.proof_of(uow, row, with_text=True)
        erased = [
            found.document["body"]["event"]
            for found in journal.read_rows(uow.session, subject=version.id)
        ]
    assert stranger.accepts(before)
    assert stranger.accepts(after)
    assert after["row"] == before["row"]
    assert "dataset_version:erase" in erased


def test_nobody_proves_a_vote_that_is_still_blind_or_a_row_of_others(sqlite_walk: Walk) -> None:
    walk = sqlite_walk
    release = walk.voted(walk.release(ReleaseState.SUBMITTED), walk.auditors[0])
    with walk.application.uow(read_only=True) as uow:
        rows = list(journal.read_rows(uow.session))
        vote = next(row for row in rows if row.document["body"]["event"] == "release:review")
        assert heads.prove_row(uow, walk.auditors[0], seq=vote.seq)["row"] == vote.text
        for actor in (walk.auditors[1], walk.owner, walk.collaborator):
            with pytest.raises(NotFound):
                heads.prove_row(uow, actor, seq=vote.seq)
        told = heads.prove_row(uow, walk.operator, seq=vote.seq)
        assert (told["row"], told["digest"]) == (None, vote.digest)
        for row in rows:
            if row.subject.startswith(("usr_", "key_", "ten_")) or "member" in row.text:
                with pytest.raises(NotFound):
                    heads.prove_row(uow, walk.owner, seq=row.seq)
    walk.voted(walk.current(release), walk.auditors[1])
    with walk.application.uow(read_only=True) as uow:
        assert heads.prove_row(uow, walk.owner, seq=vote.seq)["row"] == vote.text
        assert vote.seq in [
            row["seq"] for row in releases.list_trail(uow, walk.owner, release_id=release.id)
        ]


def test_the_command_exports_proves_and_checks(sqlite_walk: Walk, tmp_path: Path) -> None:
    settings = sqlite_walk.application.settings
    environment = {
        "DATABASE_URL": settings.effective_database_url,
        "REDIS_URL": settings.redis_url,
        "S3_ENDPOINT_URL": settings.s3_endpoint_url,
        "S3_ACCESS_KEY": settings.s3_access_key,
        "S3_SECRET_KEY": settings.s3_secret_key,
        "S3_BUCKET_PREFIX": settings.s3_bucket_prefix,
        "KAIMA_STATE": str(settings.state),
        "KAIMA_CATALOGUE_FILE": str(settings.catalogue_file),
        "KAIMA_HOME": str(tmp_path),
        "KAIMA_JOURNAL_RETENTION_DAYS": "0",  # or nobody could remove the bucket
    }
    key = tmp_path / "key.pem"
    key.write_bytes(public_key_pem(sqlite_walk.application.signing_key()))

    def run(*arguments: str | Path) -> tuple[int, str]:
        done = CliRunner().invoke(kaima, ["journal", *map(str, arguments)], env=environment)
        return done.exit_code, done.output

    old, proof, growth = (tmp_path / name for name in ("old.json", "proof.json", "growth.json"))
    assert run("head", "--out", old)[0] == 0
    assert run("prove", "2", "--out", proof)[0] == 0
    sqlite_walk.dataset()
    assert run("consistency", old, "--out", growth)[0] == 0
    for path in (old, proof, growth):
        code, output = run("check-proof", path, "--public-key", key)
        assert (code, output.startswith("Accepted.")) == (0, True)
    assert run("verify", "--head", old)[0] == 0
    changed = json.loads(proof.read_text()) | {"seq": 3}
    proof.write_text(json.dumps(changed))
    code, output = run("check-proof", proof, "--public-key", key)
    assert (code, "REFUSED" in output) == (1, True)
    tamper(sqlite_walk.application, lambda session: truncate(session, keep=3))
    code, output = run("verify", "--head", old)
    assert (code, "truncated" in output) == (1, True)
