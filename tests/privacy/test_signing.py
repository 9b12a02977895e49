"""Signing keys are made once, readable by their owner only, and refused when others can use them."""

import hashlib
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from privacy import signing
from privacy.errors import InvalidParameter


def test_a_key_is_made_once_with_mode_0600_whatever_the_umask(tmp_path):
    path = tmp_path / "state" / "signing.pem"
    before = os.umask(0)
    try:
        first = signing.load_or_create_signing_key(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = signing.load_or_create_signing_key(path)
    assert signing.fingerprint(again) == signing.fingerprint(first)
    assert [file.name for file in path.parent.iterdir()] == ["signing.pem"]


def test_processes_that_start_together_end_with_the_same_key(tmp_path):
    path = tmp_path / "signing.pem"
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: signing.load_or_create_signing_key(path), range(16)))
    assert len({signing.fingerprint(key) for key in keys}) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["signing.pem"]


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o620, 0o666, 0o601])
def test_a_key_that_others_can_use_is_refused(tmp_path, mode):
    path = tmp_path / "signing.pem"
    signing.load_or_create_signing_key(path)
    path.chmod(mode)
    with pytest.raises(InvalidParameter, match="chmod 600"):
        signing.load_or_create_signing_key(path)


def test_a_key_mounted_for_the_group_to_read_is_accepted(tmp_path):
    path = tmp_path / "signing.pem"
    key = signing.load_or_create_signing_key(path)
    path.chmod(0o440)
    assert signing.fingerprint(signing.load_signing_key(path)) == signing.fingerprint(key)


def write_secret(path, content):
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def test_a_file_that_is_no_ed25519_key_is_refused_and_left_alone(tmp_path):
    other = generate_private_key(SECP256R1())
    contents = {
        b"": "no unencrypted PEM",
        b"hello": "no unencrypted PEM",
        b"\x00" * 32: "no unencrypted PEM",
        other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()): "no Ed25519 key",
        signing.load_or_create_signing_key(tmp_path / "k").private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")
        ): "no unencrypted PEM",
    }
    for content, sentence in contents.items():
        path = write_secret(tmp_path / "signing.pem", content)
        with pytest.raises(InvalidParameter, match=sentence):
            signing.load_or_create_signing_key(path)
        assert path.read_bytes() == content


def test_a_public_key_loads_from_pem_and_from_raw_bytes_under_one_fingerprint(tmp_path):
    key = signing.load_or_create_signing_key(tmp_path / "signing.pem")
    raw = key.public_key().public_bytes_raw()
    expected = hashlib.sha256(raw).hexdigest()
    assert signing.fingerprint(signing.load_public_key(raw)) == expected
    assert signing.fingerprint(signing.load_public_key(signing.public_key_pem(key))) == expected
    assert signing.public_key_pem(key) == signing.public_key_pem(key.public_key())


def test_what_is_no_ed25519_public_key_is_refused(tmp_path):
    other = generate_private_key(SECP256R1()).public_key()
    key = signing.load_or_create_signing_key(tmp_path / "signing.pem")
    contents = [
        b"",
        b"\x00" * 31,
        b"-----BEGIN PUBLIC KEY-----\n",
        other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        # A private key is no public key: whoever passes one should learn of the mistake.
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        b"x" * 100_000,
    ]
    for content in contents:
        with pytest.raises(InvalidParameter, match="public key was refused"):
            signing.load_public_key(content)


def test_a_signature_holds_for_its_message_and_its_key_only(tmp_path):
    key = signing.load_or_create_signing_key(tmp_path / "a")
    other = signing.load_or_create_signing_key(tmp_path / "b")
    signature = key.sign(b"message")
    assert len(signature) == signing.SIGNATURE_BYTES
    assert signing.is_signature(signature, b"message", key=key.public_key())
    assert not signing.is_signature(signature, b"messagf", key=key.public_key())
    assert not signing.is_signature(signature, b"message", key=other.public_key())
    assert not signing.is_signature(signature[:-1], b"message", key=key.public_key())
    assert not signing.is_signature(b"", b"message", key=key.public_key())
    for position in range(64):
        changed = bytearray(signature)
        changed[position] ^= 1
        assert not signing.is_signature(bytes(changed), b"message", key=key.public_key())
