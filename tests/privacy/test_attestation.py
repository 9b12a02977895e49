"""The in-toto statement about a bundle: verified as the standards say, refused in any other form."""

import base64
import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from privacy import attestation
from privacy.bundle import verify_bundle, write_zip
from tests.privacy.test_bundle import KEY, OTHER_KEY, PUBLIC, certificate, make_bundle, named

NAME = "SHA256SUMS.intoto.jsonl"


@pytest.fixture
def bundle(tmp_path):
    folder = make_bundle(tmp_path / "bundle", layout=2)
    attestation.write(folder, certificate(layout=2), key=KEY)
    return folder


def refused(folder):
    result = verify_bundle(folder, public_key=PUBLIC)
    assert not result.accepted
    return named(result)


def test_a_bundle_with_its_statement_is_accepted_as_folder_and_as_zip(bundle, tmp_path):
    write_zip(bundle, tmp_path / "bundle.zip")
    for path in (bundle, tmp_path / "bundle.zip"):
        result = verify_bundle(path, public_key=PUBLIC)
        assert result.accepted, result.problems
        assert result.files_checked == 9


def test_a_reader_who_knows_only_dsse_and_in_toto_can_verify_every_file(bundle):
    """Written from the two specifications alone; nothing of ours is called."""
    line = (bundle / NAME).read_text(encoding="utf-8")
    assert line.endswith("\n")
    assert line.count("\n") == 1
    envelope = json.loads(line)
    payload = base64.b64decode(envelope["payload"], validate=True)
    kind = envelope["payloadType"]
    assert kind == "application/vnd.in-toto+json"
    encoded = b" ".join(
        [b"DSSEv1", str(len(kind)).encode(), kind.encode(), str(len(payload)).encode(), payload]
    )
    [signature] = envelope["signatures"]
    key = load_pem_public_key((bundle / "public_key.pem").read_bytes())
    key.verify(base64.b64decode(signature["sig"]), encoded)
    statement = json.loads(payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    [subject] = statement["subject"]
    listing = (bundle / subject["name"]).read_bytes()
    assert subject["digest"] == {"sha256": hashlib.sha256(listing).hexdigest()}
    for row in listing.decode().splitlines():
        digest, name = row.split("  ", 1)
        assert hashlib.sha256((bundle / name).read_bytes()).hexdigest() == digest
    listed = {row.split("  ", 1)[1] for row in listing.decode().splitlines()}
    files = {p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()}
    assert files - listed == {"SHA256SUMS", "SHA256SUMS.sig", NAME}


def resigned(bundle, change, key=KEY):
    """Return an envelope whose statement was changed and signed again."""
    envelope = json.loads((bundle / NAME).read_bytes())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    change(statement)
    payload = json.dumps(statement).encode()
    envelope["payload"] = base64.b64encode(payload).decode()
    sign = key.sign(attestation.encode(payload))
    envelope["signatures"][0]["sig"] = base64.b64encode(sign).decode()
    return json.dumps(envelope).encode()


def by_another_key(bundle):
    payload = base64.b64decode(json.loads((bundle / NAME).read_bytes())["payload"])
    sig = base64.b64encode(OTHER_KEY.sign(attestation.encode(payload))).decode()
    envelope = json.loads((bundle / NAME).read_bytes())
    envelope["signatures"][0]["sig"] = sig
    return (
        json.dumps(envelope, separators=(",", ":"), sort_keys=True, ensure_ascii=False) + "\n"
    ).encode()


def two_signatures(bundle):
    envelope = json.loads((bundle / NAME).read_bytes())
    envelope["signatures"] *= 2
    return json.dumps(envelope, separators=(",", ":"), sort_keys=True).encode() + b"\n"


ENVELOPES = {
    "empty": lambda _: b"",
    "no JSON": lambda _: b"\xff",
    "a number": lambda _: b"1\n",
    "deeply nested": lambda _: b"[" * 100_000,
    "no signature": lambda _: b'{"signatures":[]}',
    "other spaces": lambda bundle: (bundle / NAME).read_bytes().replace(b":", b": ", 1),
    "a second line": lambda bundle: (bundle / NAME).read_bytes() * 2,
    "signed by another key": by_another_key,
    "two signatures": two_signatures,
    "another version": lambda bundle: resigned(
        bundle, lambda s: s["predicate"].update(version="2.0.0")
    ),
    "another subject": lambda bundle: resigned(
        bundle, lambda s: s["subject"][0]["digest"].update(sha256="0" * 64)
    ),
}


@pytest.mark.parametrize("make", ENVELOPES.values(), ids=ENVELOPES)
def test_a_statement_in_any_other_form_is_refused_by_name(bundle, make):
    (bundle / NAME).write_bytes(make(bundle))
    assert refused(bundle) == {NAME}


def test_a_missing_statement_is_refused(bundle):
    (bundle / NAME).unlink()
    assert refused(bundle) == {NAME}


def test_the_statement_of_another_release_is_refused(bundle, tmp_path):
    other = make_bundle(tmp_path / "other", layout=2, release_id="rel_2")
    attestation.write(other, certificate(layout=2, release_id="rel_2"), key=KEY)
    (bundle / NAME).write_bytes((other / NAME).read_bytes())
    assert refused(bundle) == {NAME}


def test_a_bundle_from_before_statements_is_accepted_and_may_not_get_one(tmp_path):
    folder = make_bundle(tmp_path / "old")
    assert verify_bundle(folder, public_key=PUBLIC).accepted
    attestation.write(folder, certificate(), key=KEY)
    assert refused(folder) == {NAME}


def test_names_that_some_systems_take_for_one_another_are_refused(tmp_path):
    folder = make_bundle(tmp_path / "bundle")
    (folder / "SHA256SUMS.sig").unlink()
    (folder / "readme.MD").write_text("another")
    from privacy.bundle import sign_bundle, write_checksums

    write_checksums(folder)
    sign_bundle(folder, KEY)
    result = verify_bundle(folder, public_key=PUBLIC)
    assert named(result) == {"readme.MD"}
    assert "README.md where case does not count" in result.problems[0].reason


def test_two_signers_cannot_share_one_envelope(bundle):
    key = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    assert not verify_bundle(bundle, public_key=key).accepted


def test_no_byte_of_a_statement_can_be_changed(bundle):
    content = (bundle / NAME).read_bytes()
    key = KEY.public_key()
    given = {
        "listing": (bundle / "SHA256SUMS").read_bytes(),
        "certificate": certificate(layout=2),
        "content": (bundle / "certificate.json").read_bytes(),
        "key": key,
    }
    assert attestation.find_problem(content, **given) is None
    for position in range(len(content)):
        for bit in (1, 32):
            changed = bytearray(content)
            changed[position] ^= bit
            assert attestation.find_problem(bytes(changed), **given) is not None, position
