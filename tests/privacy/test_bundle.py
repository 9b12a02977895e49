"""A bundle is accepted as it was published, and refused, by file name, in every other state."""

import io
import json
import os
import shutil
import stat
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy import accounting, signing
from privacy.bundle import (
    KeySource,
    VerificationResult,
    sign_bundle,
    verify_bundle,
    write_checksums,
    write_zip,
)
from privacy.errors import InvalidParameter
from privacy.manifests import DatasetSchema, ReleaseCertificate
from privacy.mechanisms import (
    GaussianMechanism,
    PoissonSubsampledGaussianMechanism,
    UnitOfPrivacy,
)

MECHANISMS = (
    GaussianMechanism(stage="statistics", noise_multiplier=6.0),
    PoissonSubsampledGaussianMechanism(
        stage="dp_sgd", noise_multiplier=4.0, sampling_rate=0.1, steps=50
    ),
)
KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)
PUBLIC = KEY.public_key().public_bytes_raw()
EPSILON = accounting.epsilon(MECHANISMS, 1e-5)


def certificate(**changes) -> ReleaseCertificate:
    values = {
        "release_id": "rel_1",
        "name": "knees",
        "version": "1.0.0",
        "publisher": "A hospital",
        "published_at": "2026-01-01T00:00:00Z",
        "unit": UnitOfPrivacy.PERSON,
        "declared": DatasetSchema(
            declared_count=2500, height=64, width=64, label="kl", labels=("0", "1")
        ),
        "generator": "statistics",
        "epsilon": EPSILON,
        "delta": 1e-5,
        "mechanisms": MECHANISMS,
        "cohort_epsilon": EPSILON,
        "cohort_delta": 1e-5,
        "composition": "basic",
        "candidates_trained": 1,
        "audits_attempted": 1,
        "tier": "registered",
        "policy_version": "1",
        "policy_digest": "0" * 64,
        "verdict": "PASS-EMPIRICAL",
        "verdicts": {"near_copies": "PASS-EMPIRICAL"},
        "thresholds": {"auc": 0.6},
        "approvers_count": 2,
        "image_count": 2,
        "labels": {"0": 1, "1": 1},
        "commitments": {"report": "1" * 64},
        "statements": ("Stated per person.",),
        "signed_by": signing.fingerprint(KEY),
    }
    return ReleaseCertificate(**(values | changes))


def make_bundle(folder: Path, *, key: Ed25519PrivateKey = KEY, **changes) -> Path:
    (folder / "images" / "0").mkdir(parents=True)
    (folder / "images" / "1").mkdir()
    (folder / "README.md").write_text("A synthetic set.\n")
    (folder / "images" / "0" / "00000.png").write_bytes(b"\x89PNG" + bytes(range(200)))
    (folder / "images" / "1" / "00001.png").write_bytes(b"\x89PNG" + bytes(range(100)))
    (folder / "knees-1.0.0.npz").write_bytes(b"PK" + b"\x00" * 500)
    (folder / "certificate.json").write_bytes(certificate(**changes).canonical())
    (folder / "public_key.pem").write_bytes(signing.public_key_pem(key))
    write_checksums(folder)
    sign_bundle(folder, key)
    return folder


@pytest.fixture
def bundle(tmp_path) -> Path:
    return make_bundle(tmp_path / "bundle")


@pytest.fixture
def archive(bundle, tmp_path) -> Path:
    path = tmp_path / "knees-1.0.0.zip"
    write_zip(bundle, path)
    return path


def named(result: VerificationResult) -> set[str]:
    return {problem.file for problem in result.problems}


FILES = [
    "README.md",
    "images/0/00000.png",
    "images/1/00001.png",
    "knees-1.0.0.npz",
    "certificate.json",
    "public_key.pem",
    "SHA256SUMS",
    "SHA256SUMS.sig",
]


def test_a_published_bundle_is_accepted_and_reports_what_the_signer_attests(bundle, archive):
    for path in (bundle, archive):
        result = verify_bundle(path, public_key=PUBLIC)
        assert result.accepted, result.problems
        assert json.loads(result.model_dump_json()) == {
            "accepted": True,
            "problems": [],
            "files_checked": len(FILES),
            "key_source": "given",
            "signed_by": signing.fingerprint(KEY),
            "release_id": "rel_1",
            "epsilon_stated": EPSILON,
            "epsilon_rederived": EPSILON,
            "delta": 1e-5,
            "relation": "add_or_remove_one",
            "unit": "person",
            "reason": None,
        }


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_one_changed_byte_is_refused_and_the_file_named(bundle, name, where):
    path = bundle / name
    content = bytearray(path.read_bytes())
    content[{"first": 0, "middle": len(content) // 2, "last": -1}[where]] ^= 1
    path.write_bytes(content)
    result = verify_bundle(bundle, public_key=PUBLIC)
    assert not result.accepted
    assert name in named(result)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", ["appended", "truncated", "emptied"])
def test_a_longer_or_shorter_file_is_refused_and_named(bundle, name, change):
    path = bundle / name
    content = path.read_bytes()
    path.write_bytes(
        {"appended": content + b"\n", "truncated": content[:-1], "emptied": b""}[change]
    )
    result = verify_bundle(bundle, public_key=PUBLIC)
    assert not result.accepted
    assert name in named(result)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_and_named(bundle, name):
    (bundle / name).unlink()
    result = verify_bundle(bundle, public_key=PUBLIC)
    assert not result.accepted
    assert name in named(result)


@pytest.mark.parametrize("name", ["extra.txt", "images/0/.DS_Store", "deep/er/file", "SHA256SUMS2"])
def test_an_added_file_is_refused_and_named(bundle, name):
    (bundle / name).parent.mkdir(parents=True, exist_ok=True)
    (bundle / name).write_text("more")
    result = verify_bundle(bundle, public_key=PUBLIC)
    assert not result.accepted
    assert name in named(result)


def test_an_added_empty_folder_is_refused_and_named(bundle):
    (bundle / "images" / "2").mkdir()
    assert named(verify_bundle(bundle, public_key=PUBLIC)) == {"images/2"}


@pytest.mark.parametrize("name", FILES)
def test_a_file_replaced_by_a_link_to_the_same_bytes_is_refused_and_named(bundle, tmp_path, name):
    outside = tmp_path / "outside"
    shutil.move(bundle / name, outside)
    (bundle / name).symlink_to(outside)
    result = verify_bundle(bundle, public_key=PUBLIC)
    assert not result.accepted
    assert name in named(result)


def test_a_folder_replaced_by_a_link_is_refused_and_named(bundle, tmp_path):
    shutil.move(bundle / "images" / "0", tmp_path / "elsewhere")
    (bundle / "images" / "0").symlink_to(tmp_path / "elsewhere")
    assert "images/0" in named(verify_bundle(bundle, public_key=PUBLIC))


def test_a_hard_link_is_refused_and_named(bundle, tmp_path):
    os.link(bundle / "README.md", tmp_path / "elsewhere")
    assert named(verify_bundle(bundle, public_key=PUBLIC)) == {"README.md"}


def test_a_named_pipe_is_refused_without_waiting_for_it(bundle):
    (bundle / "README.md").unlink()
    os.mkfifo(bundle / "README.md")
    assert named(verify_bundle(bundle, public_key=PUBLIC)) == {"README.md"}


@pytest.mark.parametrize(
    "name", [b"caf\xe9.txt", b"line\nbreak", b"tab\t", b"back\\slash", b"\x7f"]
)
def test_an_added_file_with_an_odd_name_is_refused_and_shown_safely(bundle, name):
    (bundle / os.fsdecode(name)).write_text("more")
    (problem,) = verify_bundle(bundle, public_key=PUBLIC).problems
    assert problem.file.isascii()
    assert problem.file.isprintable()


def test_a_folder_that_cannot_be_listed_is_a_problem_and_no_crash(bundle):
    nested = bundle / "n"
    nested.mkdir()
    here = os.open(nested, os.O_RDONLY)
    try:
        for _ in range(30):
            os.mkdir("d" * 200, dir_fd=here)
            deeper = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = deeper
    finally:
        os.close(here)
    assert not verify_bundle(bundle, public_key=PUBLIC).accepted


def test_a_large_file_is_hashed_in_pieces(tmp_path):
    folder = make_bundle(tmp_path / "large")
    with (folder / "knees-1.0.0.npz").open("wb") as stream:
        stream.truncate(48 << 20)
    (folder / "SHA256SUMS.sig").unlink()
    write_checksums(folder)
    sign_bundle(folder, KEY)
    write_zip(folder, tmp_path / "large.zip")
    for path in (folder, tmp_path / "large.zip"):
        tracemalloc.start()
        try:
            assert verify_bundle(path, public_key=PUBLIC).accepted
            assert tracemalloc.get_traced_memory()[1] < 12 << 20
        finally:
            tracemalloc.stop()


def test_two_files_that_swap_places_are_refused_and_named(bundle):
    first, second = bundle / "images/0/00000.png", bundle / "images/1/00001.png"
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    result = verify_bundle(bundle, public_key=PUBLIC)
    assert named(result) == {"images/0/00000.png", "images/1/00001.png"}


def test_a_bundle_signed_anew_by_another_key_is_refused(tmp_path):
    forged = make_bundle(
        tmp_path / "forged", key=OTHER_KEY, signed_by=signing.fingerprint(OTHER_KEY)
    )
    result = verify_bundle(forged, public_key=PUBLIC)
    assert {"SHA256SUMS.sig", "public_key.pem"} <= named(result)
    assert result.signed_by is None
    assert result.epsilon_stated is None
    assert result.reason


def test_the_right_bundle_checked_with_the_wrong_key_is_refused(bundle):
    result = verify_bundle(bundle, public_key=OTHER_KEY.public_key().public_bytes_raw())
    assert {"SHA256SUMS.sig", "public_key.pem"} <= named(result)
    assert result.signed_by is None


def test_a_key_found_only_in_the_bundle_is_not_trusted(bundle):
    result = verify_bundle(bundle)
    assert not result.accepted
    assert named(result) == {"public_key.pem"}
    assert result.signed_by is None


def test_first_use_reports_the_fingerprint_to_pin_and_the_pin_then_decides(bundle, tmp_path):
    first = verify_bundle(bundle, trust_on_first_use=True)
    assert first.accepted
    assert first.key_source is KeySource.FIRST_USE
    assert first.signed_by == signing.fingerprint(KEY)
    again = verify_bundle(bundle, pinned_fingerprint=first.signed_by)
    assert again.accepted
    assert again.key_source is KeySource.PINNED
    forged = make_bundle(
        tmp_path / "forged", key=OTHER_KEY, signed_by=signing.fingerprint(OTHER_KEY)
    )
    for trust in (False, True):
        result = verify_bundle(forged, pinned_fingerprint=first.signed_by, trust_on_first_use=trust)
        assert not result.accepted
        assert "public_key.pem" in named(result)


def test_a_given_key_needs_no_key_in_the_bundle(tmp_path):
    folder = make_bundle(tmp_path / "bundle")
    (folder / "public_key.pem").unlink()
    (folder / "SHA256SUMS.sig").unlink()
    write_checksums(folder)
    sign_bundle(folder, KEY)
    assert verify_bundle(folder, public_key=signing.public_key_pem(KEY)).accepted
    assert named(verify_bundle(folder, trust_on_first_use=True)) == {"public_key.pem"}


def test_a_certificate_that_names_another_signer_is_refused(tmp_path):
    folder = make_bundle(tmp_path / "b", signed_by=signing.fingerprint(OTHER_KEY))
    assert named(verify_bundle(folder, public_key=PUBLIC)) == {"certificate.json"}


@pytest.mark.parametrize(
    ("stated", "accepted"),
    [(EPSILON, True), (EPSILON + 1, True), (EPSILON - 0.0009, True), (EPSILON - 0.0011, False)],
)
def test_epsilon_is_derived_anew_and_a_claim_below_it_is_refused(tmp_path, stated, accepted):
    folder = make_bundle(tmp_path / "b", epsilon=stated)
    result = verify_bundle(folder, public_key=PUBLIC)
    assert result.accepted is accepted
    assert result.epsilon_stated == stated
    assert result.epsilon_rederived == pytest.approx(EPSILON)
    assert named(result) == (set() if accepted else {"certificate.json"})


def test_a_certificate_without_mechanisms_is_refused(tmp_path):
    folder = make_bundle(tmp_path / "b", mechanisms=(), epsilon=0.0)
    assert named(verify_bundle(folder, public_key=PUBLIC)) == {"certificate.json"}


@pytest.mark.parametrize("steps", [10**8, 2**53 - 1])
def test_a_certificate_whose_steps_nobody_could_run_is_refused_quickly(tmp_path, steps):
    endless = MECHANISMS[1].model_copy(update={"steps": steps})
    folder = make_bundle(tmp_path / "b", mechanisms=(endless,))
    assert named(verify_bundle(folder, public_key=PUBLIC)) == {"certificate.json"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"not json",
        b'{"a": 1, "a": 2}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_signed_certificate_that_cannot_be_read_is_refused(tmp_path, content):
    folder = make_bundle(tmp_path / "b")
    (folder / "certificate.json").write_bytes(content)
    (folder / "SHA256SUMS.sig").unlink()
    write_checksums(folder)
    sign_bundle(folder, KEY)
    assert named(verify_bundle(folder, public_key=PUBLIC)) == {"certificate.json"}


def test_a_signed_certificate_that_names_a_key_twice_is_refused(tmp_path):
    folder = make_bundle(tmp_path / "b")
    path = folder / "certificate.json"
    path.write_bytes(path.read_bytes()[:-1] + b',"epsilon":99}')
    (folder / "SHA256SUMS.sig").unlink()
    write_checksums(folder)
    sign_bundle(folder, KEY)
    assert named(verify_bundle(folder, public_key=PUBLIC)) == {"certificate.json"}


@pytest.mark.parametrize(
    "line",
    [
        f"{'0' * 64}  ../outside\n",
        f"{'0' * 64}  /etc/hostname\n",
        f"{'0' * 64}  images/../README.md\n",
        f"{'0' * 64}  images//x\n",
        f"{'0' * 64}  a\\b\n",
        f"{'0' * 64}  SHA256SUMS\n",
        f"{'0' * 64} *README.md\n",
        f"{'A' * 64}  README.md\n",
        f"{'0' * 63}  README.md\n",
        "\n",
        "# a comment\n",
    ],
)
def test_a_signed_list_with_a_hostile_line_is_refused(tmp_path, line):
    folder = make_bundle(tmp_path / "b")
    sums = folder / "SHA256SUMS"
    sums.write_bytes(sums.read_bytes() + line.encode())
    sign_bundle(folder, KEY)
    assert "SHA256SUMS" in named(verify_bundle(folder, public_key=PUBLIC))


def test_a_list_in_another_order_or_with_a_file_twice_is_refused(tmp_path):
    folder = make_bundle(tmp_path / "b")
    sums = folder / "SHA256SUMS"
    lines = sums.read_text().splitlines(keepends=True)
    for changed in (lines[::-1], [*lines, lines[-1]]):
        sums.write_text("".join(changed))
        sign_bundle(folder, KEY)
        assert "SHA256SUMS" in named(verify_bundle(folder, public_key=PUBLIC))


def test_sha256sum_reads_our_list(bundle):
    lines = (bundle / "SHA256SUMS").read_text().splitlines()
    assert [line[66:] for line in lines] == sorted(set(FILES) - {"SHA256SUMS", "SHA256SUMS.sig"})


def test_checksums_are_not_written_over_links_or_over_a_signed_bundle(bundle, tmp_path):
    with pytest.raises(InvalidParameter, match="signed already"):
        write_checksums(bundle)
    (bundle / "SHA256SUMS.sig").unlink()
    (bundle / "link").symlink_to(bundle / "README.md")
    with pytest.raises(InvalidParameter, match="link is a link"):
        write_checksums(bundle)
    with pytest.raises(InvalidParameter, match="link is a link"):
        write_zip(bundle, tmp_path / "out.zip")


def test_a_path_without_a_bundle_and_a_wrong_key_are_usage_errors(tmp_path, bundle):
    with pytest.raises(InvalidParameter, match="neither a folder nor a file"):
        verify_bundle(tmp_path / "nothing", public_key=PUBLIC)
    with pytest.raises(InvalidParameter, match="public key was refused"):
        verify_bundle(bundle, public_key=b"no key")
    with pytest.raises(InvalidParameter, match="64 hex digits"):
        verify_bundle(bundle, pinned_fingerprint="abc")


# --- zips ---------------------------------------------------------------------------------------


def refused_zip(content: bytes, tmp_path: Path) -> VerificationResult:
    path = tmp_path / "tampered.zip"
    path.write_bytes(content)
    result = verify_bundle(path, public_key=PUBLIC)
    assert not result.accepted
    assert result.problems
    return result


def test_the_same_files_give_the_same_zip_and_common_tools_read_it(bundle, archive, tmp_path):
    shutil.copytree(bundle, tmp_path / "copy")
    write_zip(tmp_path / "copy", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == archive.read_bytes()
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        assert sorted(opened.namelist()) == sorted(FILES)
        assert opened.read("README.md") == (bundle / "README.md").read_bytes()


def test_every_single_byte_of_the_zip_matters(archive, tmp_path):
    content = archive.read_bytes()
    # Every byte of the headers, and a spread of the rest.
    for position in [
        *range(60),
        *range(60, len(content), 7),
        *range(len(content) - 700, len(content)),
    ]:
        changed = bytearray(content)
        changed[position] ^= 0x01 << (position % 8)
        refused_zip(bytes(changed), tmp_path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_edit_of_a_zip_is_accepted_or_crashes(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("fuzz")
    make_bundle(folder / "b")
    write_zip(folder / "b", folder / "b.zip")
    content = (folder / "b.zip").read_bytes()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 40)))
    changed = content[:start] + data.draw(st.binary(max_size=40)) + content[end:]
    if changed != content:
        refused_zip(changed, folder)


def test_bytes_before_after_or_between_the_entries_are_refused(archive, tmp_path):
    content = archive.read_bytes()
    directory = content.index(b"PK\x01\x02")
    refused_zip(b"#!/bin/sh\n" + content, tmp_path)
    refused_zip(content + b"tail", tmp_path)
    refused_zip(content[:directory] + b"gap" + content[directory:], tmp_path)
    refused_zip(content[:-30], tmp_path)
    refused_zip(b"", tmp_path)


def rebuilt(archive: Path, edit) -> bytes:
    """Return the zip written anew by another tool, after `edit` changed its entries."""
    with zipfile.ZipFile(archive) as source:
        entries = [
            (zipfile.ZipInfo(name, (2026, 1, 2, 3, 4, 6)), source.read(name))
            for name in source.namelist()
        ]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        for info, content in edit(entries):
            target.writestr(info, content)
    return out.getvalue()


def test_the_same_files_zipped_by_another_tool_are_accepted(archive, tmp_path):
    path = tmp_path / "other.zip"
    path.write_bytes(rebuilt(archive, lambda entries: entries))
    assert verify_bundle(path, public_key=PUBLIC).accepted
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(archive) as source, zipfile.ZipFile(path, "w", compression) as target:
            for name in source.namelist():
                target.writestr(name, source.read(name))
        result = verify_bundle(path, public_key=PUBLIC)
        assert result.accepted, result.problems


def test_a_zip_written_to_a_pipe_is_accepted(archive, tmp_path):
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: object) -> int:
            raise io.UnsupportedOperation

        tell = seek

    out = Pipe()
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as to:
        for name in source.namelist():
            to.writestr(name, source.read(name))
    path = tmp_path / "piped.zip"
    path.write_bytes(out.getvalue())
    result = verify_bundle(path, public_key=PUBLIC)
    assert result.accepted, result.problems


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_a_name_that_appears_twice_is_refused_and_named(archive, tmp_path):
    content = rebuilt(archive, lambda entries: [*entries, entries[2]])
    twice = [p.file for p in refused_zip(content, tmp_path).problems if "twice" in p.reason]
    assert twice == ["SHA256SUMS.sig"]


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a\\evil", "a//b", "./a"])
def test_a_name_that_climbs_out_is_refused_and_nothing_is_written(archive, tmp_path, name):
    extra = (zipfile.ZipInfo(name), b"evil")
    result = refused_zip(rebuilt(archive, lambda entries: [*entries, extra]), tmp_path)
    assert any("evil" in problem.file or "a" in problem.file for problem in result.problems)
    assert not (tmp_path.parent / "evil").exists()


def test_a_link_in_a_zip_is_refused_and_named(archive, tmp_path):
    link = zipfile.ZipInfo("README.md")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16

    def edit(entries):
        return [e for e in entries if e[0].filename != "README.md"] + [(link, b"/etc/hostname")]

    assert "README.md" in named(refused_zip(rebuilt(archive, edit), tmp_path))


def test_an_encrypted_entry_is_refused_and_named(archive, tmp_path):
    content = bytearray(rebuilt(archive, lambda entries: entries))
    local = content.index(b"PK\x03\x04")
    central = content.index(b"PK\x01\x02")
    content[local + 6] |= 1
    content[central + 8] |= 1
    assert "README.md" in named(refused_zip(bytes(content), tmp_path))


def test_an_entry_that_claims_to_be_huge_is_refused_without_unpacking_it(archive, tmp_path):
    bomb = (zipfile.ZipInfo("bomb"), b"\x00" * 1000)
    content = bytearray(rebuilt(archive, lambda entries: [*entries, bomb]))
    central = content.rindex(b"PK\x01\x02")
    struct.pack_into("<L", content, central + 24, 0xFFFFFFF0)
    refused_zip(bytes(content), tmp_path)


def test_bytes_hidden_behind_a_compressed_file_are_refused(archive, tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as to:
        for name in source.namelist():
            to.writestr(name, source.read(name))
        # README.md is the first entry in name order; make its stream one byte longer.
    content = bytearray(out.getvalue())
    names, extras = struct.unpack_from("<2H", content, 26)
    packed = struct.unpack_from("<L", content, 18)[0]
    end = 30 + names + extras + packed
    content[end:end] = b"!"
    struct.pack_into("<L", content, 18, packed + 1)
    position = end + 1
    central = content.index(b"PK\x01\x02", position)
    struct.pack_into("<L", content, central + 20, packed + 1)
    record = central
    while content[record : record + 4] == b"PK\x01\x02":
        offset = struct.unpack_from("<L", content, record + 42)[0]
        struct.pack_into("<L", content, record + 42, offset + (1 if offset else 0))
        lengths = struct.unpack_from("<3H", content, record + 28)
        record += 46 + sum(lengths)
    struct.pack_into("<L", content, record + 16, central)
    result = refused_zip(bytes(content), tmp_path)
    assert "README.md" in named(result)


@pytest.mark.parametrize("name", FILES)
def test_a_changed_missing_or_added_entry_is_refused_and_named(archive, tmp_path, name):
    def change(entries):
        return [(i, c[:-1] + b"\x7f" if i.filename == name else c) for i, c in entries]

    def drop(entries):
        return [(i, c) for i, c in entries if i.filename != name]

    assert name in named(refused_zip(rebuilt(archive, change), tmp_path))
    assert name in named(refused_zip(rebuilt(archive, drop), tmp_path))
    extra = (zipfile.ZipInfo("extra.txt"), b"more")
    result = refused_zip(rebuilt(archive, lambda entries: [*entries, extra]), tmp_path)
    assert named(result) == {"extra.txt"}


def test_a_file_that_is_no_zip_is_refused_by_its_name(tmp_path):
    path = tmp_path / "notes.zip"
    path.write_text("hello")
    assert "notes.zip" in named(verify_bundle(path, public_key=PUBLIC))


def check_large(folder: Path, path: Path) -> None:
    (folder / "SHA256SUMS.sig").unlink()
    write_checksums(folder)
    sign_bundle(folder, KEY)
    write_zip(folder, path)
    result = verify_bundle(path, public_key=PUBLIC)
    assert result.accepted, result.problems
    with zipfile.ZipFile(path) as opened:
        assert opened.read("README.md") == (folder / "README.md").read_bytes()
    with path.open("r+b") as stream:
        # The last byte of the last central record's name, well inside the zip64 records.
        stream.seek(-150, os.SEEK_END)
        byte = stream.read(1)[0]
        stream.seek(-150, os.SEEK_END)
        stream.write(bytes([byte ^ 1]))
    assert not verify_bundle(path, public_key=PUBLIC).accepted


@pytest.mark.slow
def test_more_files_than_a_plain_zip_can_count_are_packed_and_verified(tmp_path):
    folder = make_bundle(tmp_path / "many")
    for number in range(66_000):
        (folder / "images" / "0" / f"{number:06d}.png").write_bytes(b"%d" % number)
    check_large(folder, tmp_path / "many.zip")


@pytest.mark.slow
def test_a_file_larger_than_a_plain_zip_can_hold_is_packed_and_verified(tmp_path):
    folder = make_bundle(tmp_path / "large")
    with (folder / "a-first.npz").open("wb") as stream:
        stream.truncate((4 << 30) + 10)
    check_large(folder, tmp_path / "large.zip")
