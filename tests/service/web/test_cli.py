"""The `kaima` command as users run it: a process of its own against the running service."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy import bundle, signing
from service.cli import kaima as main
from service.config import Settings
from service.domain.accounts import Actor
from service.domain.releases import ReleaseState
from service.operations import jobs
from service.profile import PinChanged, Profile, pin, pins
from tests.factories import Walk

TokenOf = Callable[[Actor], str]
Kaima = Callable[..., subprocess.CompletedProcess[str]]
REPOSITORY = Path(__file__).resolve().parents[3]


DECLARED = ["--declared-count", "1000", "--height", "8", "--width", "8", "--label", "grade"]
DECLARED += ["--purpose", "tests", "--epsilon", "1"]


@pytest.fixture
def kaima(live_url: str, tmp_path: Path, token_of: TokenOf) -> Kaima:
    """Return what runs one command as an actor, with a configuration folder of its own."""

    def run(
        *arguments: str, actor: Actor | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        variables = {
            "PATH": os.environ["PATH"],
            "KAIMA_CONFIG": str(tmp_path / "config"),
            "KAIMA_URL": live_url,
            "PYTHONPATH": str(REPOSITORY),
            **({"KAIMA_API_KEY": token_of(actor)} if actor else {}),
            **environment,
        }
        return subprocess.run(  # nothing of a shell: a list of words
            [sys.executable, "-m", "service.cli", *arguments],
            env=variables,
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            check=False,
        )

    return run


def test_the_walkthrough_of_a_data_owner_is_one_command_a_step(
    kaima: Kaima, people: Walk, tmp_path: Path
) -> None:
    owner = people.owner
    declared = ["--declared-count", "1000", "--height", "8", "--width", "8", "--label", "grade"]
    declared += ["--labels", "0,1", "--epsilon", "3", "--purpose", "tests"]
    made = kaima("--json", "dataset", "create", "knees by hand", *declared, actor=owner)
    assert made.returncode == 0, made.stderr
    dataset_id = json.loads(made.stdout)["id"]
    (tmp_path / "dicom").mkdir()
    (tmp_path / "dicom" / "labels.csv").write_text("file,grade\n")
    sent = kaima("--json", "dataset", "upload", dataset_id, "dicom", "--no-wait", actor=owner)
    assert sent.returncode == 0, sent.stderr
    job = json.loads(sent.stdout)
    assert (job["kind"], job["state"]) == ("ingest", "queued")
    cancelled = kaima("job", "cancel", job["id"], actor=owner)
    assert "cancelled" in cancelled.stdout
    budget = kaima("dataset", "budget", dataset_id, actor=owner)
    assert "epsilon remaining   3.0" in budget.stdout
    listed = kaima("job", "list", "--dataset", dataset_id, actor=owner)
    assert "ingest" in listed.stdout


def test_a_table_is_checked_and_declared_by_its_schema(
    kaima: Kaima, people: Walk, tmp_path: Path
) -> None:
    (tmp_path / "table.toml").write_text(
        'declared_count = 500\nperson = "who"\n[[columns]]\nname = "age"\nkind = "integer"\n'
        "edges = [40, 60, 80]\n"
    )
    checked = kaima("schema", "check", "table.toml")
    assert "age: integer, 2 codes" in checked.stdout
    asked = ["--purpose", "tests", "--epsilon", "1", "--schema", "table.toml"]
    made = kaima("--json", "dataset", "create", "visits by hand", *asked, actor=people.owner)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["declared"]["columns"][0]["name"] == "age"
    mixed = kaima("dataset", "create", "x", *asked, "--height", "8", actor=people.owner)
    assert (mixed.returncode, "--height is about images" in mixed.stderr) == (2, True)


def test_training_is_planned_and_requested_with_settings(kaima: Kaima, people: Walk) -> None:
    version = people.version(people.dataset())
    options = ["--generator", "statistics", "--epsilon", "1", "--delta", "1e-6"]
    plan = kaima(
        "--json", "train", "plan", version.id, *options, "--set", "components=4", "--no-estimate",
        actor=people.owner,
    )  # fmt: skip
    assert plan.returncode == 0, plan.stderr
    assert json.loads(plan.stdout)["config"] == {"components": 4}
    job = kaima("train", "request", version.id, *options, actor=people.owner)
    assert "queued" in job.stdout
    wrong = kaima("train", "request", version.id, *options, "--set", "x", actor=people.owner)
    assert wrong.returncode == 2


def test_a_plan_reads_as_sentences_and_waits_for_its_dry_run(kaima: Kaima, people: Walk) -> None:
    version = people.version(people.dataset())
    command = ["train", "plan", version.id, "--generator", "network", "--epsilon", "1"]
    plan = kaima(*command, "--preset", "quick", "--no-estimate", actor=people.owner)
    assert plan.returncode == 0, plan.stderr
    assert "epsilon         1 of 3 left, at delta 1e-06" in plan.stdout
    assert "settings        quick: steps 10, batch 175" in plan.stdout
    assert "warning         Too little to learn from" in plan.stdout
    assert "Recommended: statistics." in plan.stdout
    assert "expected time" not in plan.stdout

    with people.application.uow(read_only=True) as uow:
        asked = {"generator": "network", "config": {}, "version_id": version.id}
        target = jobs.target_for(uow, people.owner, version_id=version.id, epsilon=1.0, delta=None)
        found = jobs.plan_training(uow, people.owner, target=target, **asked).planned
        assert found is not None
    with people.application.uow() as uow:
        estimate = jobs.request_estimate(uow, people.owner, version_id=version.id, planned=found)
    with people.application.uow(read_only=True) as uow:
        job = jobs.load_job(uow, estimate.job_id)
    result = {"seconds": 200.0, "fit_seconds": 180.0, "sample_seconds": 20.0, "device": "here"}
    people.succeed(job, people.claim(job), result | {"peak_bytes": 2**29})
    told = kaima(*command, actor=people.owner).stdout
    assert "about 3 min (training 3 min, sampling 20 s; here; the audit comes after)" in told
    assert "expected memory about 512 MiB" in told
    wrong = kaima(*command, "--preset", "slow", actor=people.owner)
    assert wrong.returncode == 2


def test_a_refusal_is_the_services_own_sentence_and_exit_code_2(kaima: Kaima, people: Walk) -> None:
    denied = kaima("operator", "tenant", "mine", actor=people.owner)
    assert denied.returncode == 2
    assert denied.stderr.strip() == (
        "Administering accounts was refused: only an operator may. Ask an operator."
    )
    missing = kaima("job", "show", "job_missing", actor=people.owner)
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "No job 'job_missing' was found" in missing.stderr
    anonymous = kaima("dataset", "list")
    assert anonymous.returncode == 2
    assert "carries no API key" in anonymous.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "told"),
    [
        (["whoami"], {"KAIMA_URL": "foo"}, "The address 'foo' of the service was refused"),
        (["whoami"], {"KAIMA_URL": "http://["}, "of the service was refused"),
        (["whoami"], {"KAIMA_API_KEY": "kaima_schlüssel"}, "The API key was refused: it holds"),
        (["whoami"], {"KAIMA_API_KEY": "kaima_a\nb"}, "The API key was refused: it holds"),
        (["dataset", "upload", "dst_1", "empty"], {}, "the folder holds no files"),
        (["verify", "empty", "--json", "/nonexistent/x"], {}, "/nonexistent/x was refused"),
        (["dataset", "create", "n", *DECLARED, "--labels", "0,,1"], {}, "holds an empty label"),
        (["dataset", "create", "n", *DECLARED, "--labels", "0,=1"], {}, "'=1' is not plain"),
    ],
)
def test_what_cannot_work_is_refused_with_a_sentence_and_exit_code_2(
    kaima: Kaima,
    people: Walk,
    tmp_path: Path,
    arguments: list[str],
    environment: dict[str, str],
    told: str,
) -> None:
    (tmp_path / "empty").mkdir()
    done = kaima(*arguments, actor=people.owner, **environment)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert told in " ".join(done.stderr.split())
    assert "Value error" not in done.stderr


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b'{"url": 5}'])
def test_a_broken_profile_is_refused_with_its_path(
    kaima: Kaima, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "profile.json").write_bytes(content)
    done = kaima("whoami")
    assert done.returncode == 2, done.stderr
    assert "profile.json was refused" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_service_that_does_not_answer_is_exit_code_1(kaima: Kaima) -> None:
    silent = kaima("whoami", KAIMA_URL="http://127.0.0.1:1")
    assert silent.returncode == 1
    assert "Check KAIMA_URL" in silent.stderr
    assert "Traceback" not in silent.stderr


def test_review_publication_and_withholding_are_commands(kaima: Kaima, people: Walk) -> None:
    release = people.release()
    submitted = kaima("release", "submit", release.id, actor=people.owner)
    assert "submitted" in submitted.stdout, submitted.stderr
    for auditor in people.auditors[:2]:
        vote = kaima(
            "release", "review", release.id, "--decision", "approve", "--reason", "Read it all.",
            actor=auditor,
        )  # fmt: skip
        assert vote.returncode == 0, vote.stderr
    assert "approved" in vote.stdout
    queued = kaima("release", "publish", release.id, "--no-wait", actor=people.owner)
    assert "package" in queued.stdout, queued.stderr
    trail = kaima("release", "trail", release.id, actor=people.owner)
    assert "release:submit" in trail.stdout
    published = people.release(ReleaseState.PUBLISHED)
    gone = kaima("release", "revoke", published.id, "--reason", "Asked.", actor=people.owner)
    assert "revoked" in gone.stdout, gone.stderr
    assert published.name in kaima("release", "list", actor=people.collaborator).stdout


@pytest.mark.slow
def test_policy_queue_and_proofs_are_commands(kaima: Kaima, people: Walk, tmp_path: Path) -> None:
    release = people.release(ReleaseState.SUBMITTED)
    auditor = people.auditors[0]
    queue = kaima("--json", "review", "queue", "--mine", actor=auditor)
    assert release.id in {item["id"] for item in json.loads(queue.stdout)}
    reason = ("--reason", "stricter here")
    wrong = kaima("policy", "propose", "--set", "tiers.public.auc=low", *reason, actor=auditor)
    assert wrong.returncode == 2
    in_force = json.loads(kaima("--json", "policy", "in-force", actor=auditor).stdout)
    entry = next(item for item in in_force["entries"] if item["path"] == "tiers.public.auc")
    change = f"tiers.public.auc={entry['value'] - 0.01}"
    made = kaima("--json", "policy", "propose", "--set", change, *reason, actor=auditor)
    assert made.returncode == 0, made.stderr
    version = json.loads(made.stdout)["id"]
    voted = kaima("--json", "policy", "vote", version, "approve", actor=people.auditors[1])
    assert [vote["decision"] for vote in json.loads(voted.stdout)["votes"]] == ["approve"]
    taken = kaima("--json", "policy", "withdraw", version, actor=auditor)
    assert json.loads(taken.stdout)["state"] == "withdrawn"
    head = tmp_path / "head.json"
    assert kaima("journal", "fetch-head", "--out", str(head), actor=auditor).returncode == 0
    growth = kaima("--json", "journal", "fetch-growth", str(head), actor=auditor)
    assert json.loads(growth.stdout)["old"] == json.loads(head.read_text())


def test_a_download_needs_the_terms_and_pins_the_signing_key(
    kaima: Kaima, people: Walk, web_settings: Settings, tmp_path: Path
) -> None:
    release = people.release(ReleaseState.PUBLISHED)
    refused = kaima("download", release.id, actor=people.collaborator)
    assert refused.returncode == 2
    assert "not accepted the terms" in refused.stderr
    got = kaima("download", release.id, "--accept-terms", actor=people.collaborator)
    assert got.returncode == 0, got.stderr
    assert (tmp_path / release.file_name).stat().st_size == release.bundle_bytes
    key = signing.load_signing_key(web_settings.effective_signing_key_file)
    kept = json.loads((tmp_path / "config" / "pins.json").read_text())
    assert list(kept.values()) == [[signing.fingerprint(key)]]
    assert (tmp_path / "config" / "pins.json").stat().st_mode & 0o077 == 0


def test_login_keeps_the_key_where_only_its_owner_reads_it(
    kaima: Kaima, people: Walk, token_of: TokenOf, live_url: str, tmp_path: Path
) -> None:
    made = kaima("login", "--url", live_url, "--api-key", token_of(people.owner))
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "config" / "profile.json").stat().st_mode & 0o077 == 0
    assert people.owner.user_id in kaima("whoami", KAIMA_API_KEY="").stdout
    assert token_of(people.owner) not in made.stdout + made.stderr


def test_a_changed_signing_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAIMA_CONFIG", str(tmp_path))
    assert pin("https://k.test", "a" * 64)
    assert not pin("https://k.test", "a" * 64)
    with pytest.raises(PinChanged, match="was pinned when it was first used"):
        pin("https://k.test", "b" * 64)
    assert pins() == {"https://k.test": ["a" * 64]}


def test_a_rotated_key_is_trusted_beside_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAIMA_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("KAIMA_URL", "https://k.test")
    keys = [signing.load_or_create_signing_key(tmp_path / name) for name in ("old", "new")]
    fingerprints = [signing.fingerprint(key) for key in keys]
    pin("https://k.test", fingerprints[0])
    run = CliRunner()
    assert run.invoke(main, ["trust", "not a fingerprint"]).exit_code == 2
    assert run.invoke(main, ["trust", fingerprints[1]]).exit_code == 0
    assert not pin("https://k.test", fingerprints[1])
    assert pins() == {"https://k.test": fingerprints}
    for number, key in enumerate(keys):
        shown = run.invoke(main, ["--json", "verify", str(signed_folder(tmp_path, number, key))])
        problems = json.loads(shown.output)["problems"]
        assert not [item for item in problems if "pinned" in item["reason"]], problems


def signed_folder(folder: Path, number: int, key: Ed25519PrivateKey) -> Path:
    """Return a folder that is signed, and holds no release."""
    made = folder / f"bundle {number}"
    made.mkdir()
    (made / "certificate.json").write_text("{}")
    (made / bundle.PUBLIC_KEY).write_bytes(signing.public_key_pem(key))
    bundle.write_checksums(made)
    bundle.sign_bundle(made, key)
    return made


def test_the_environment_wins_over_the_kept_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAIMA_CONFIG", str(tmp_path))
    Profile("https://kept.test", "kept").save()
    assert Profile.load({}).api_key == "kept"
    assert Profile.load({"KAIMA_API_KEY": "given"}).api_key == "given"
    assert "kept" not in repr(Profile.load({})).replace("kept.test", "")


def test_the_first_operator_is_made_at_the_machine(kaima: Kaima, web_settings: Settings) -> None:
    environment = {
        "S3_ENDPOINT_URL": web_settings.s3_endpoint_url,
        "S3_ACCESS_KEY": web_settings.s3_access_key,
        "S3_SECRET_KEY": web_settings.s3_secret_key,
        "S3_BUCKET_PREFIX": web_settings.s3_bucket_prefix,
        "REDIS_URL": web_settings.redis_url,
    }
    state = str(web_settings.state)
    made = kaima("--json", "operator", "init", "--state", state, **environment)
    assert made.returncode == 0, made.stderr
    token = json.loads(made.stdout)["api_key"]
    assert "operator" in kaima("whoami", KAIMA_API_KEY=token).stdout
    again = kaima("operator", "init", "--state", state, **environment)
    assert again.returncode == 2, again.stderr
    assert "its operator was made before" in again.stderr
    whole = kaima("journal", "verify", "--state", state, **environment)
    assert (whole.returncode, whole.stderr.strip()) == (0, "Rows")  # where the bar would be
    assert "whole" in whole.stdout


def test_verify_without_a_trusted_key_refuses_and_says_why(kaima: Kaima, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "certificate.json").write_text("{}")
    run = kaima("verify", "bundle", "--json", "out.json", KAIMA_URL="http://127.0.0.1:1")
    assert run.returncode == 1
    assert "No signing key is trusted here yet" in run.stderr
    assert json.loads((tmp_path / "out.json").read_text())["accepted"] is False
    assert kaima("verify", "missing").returncode == 2


def test_the_openapi_document_is_written_without_an_instance(kaima: Kaima, tmp_path: Path) -> None:
    run = kaima("openapi", "--out", "openapi.json")
    assert run.returncode == 0, run.stderr
    assert "/v1/jobs" in json.loads((tmp_path / "openapi.json").read_text())["paths"]


def test_client_and_verify_need_neither_server_nor_torch() -> None:
    heavy = ["flask", "sqlalchemy", "boto3", "celery", "redis", "structlog", "torch", "matplotlib"]
    code = (
        "import sys, service.cli, service.client, privacy.bundle; "
        f"sys.exit(' '.join(set({heavy!r}) & set(sys.modules)) or 0)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
