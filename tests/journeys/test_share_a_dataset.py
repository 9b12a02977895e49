"""From upload to verified download, over HTTP, against every real component; and a leak is stopped."""

import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from privacy.mechanisms import UnitOfPrivacy
from service.client import JobFailed, ProblemError
from service.resources import TrainingPlan
from service.walkthrough.actors import make_actors
from service.walkthrough.declaration import declare
from service.walkthrough.display import Display
from service.walkthrough.stack import first_operator_key, running_stack
from service.walkthrough.steps import NotReleasable, Request, Walkthrough
from service.walkthrough.summary import summarise
from service.walkthrough.verification import verify_and_tamper

LEAKY = Path(__file__).with_name("leaky")
PERSONS = 900
LABELS = ("0", "1", "2", "3", "4")

pytestmark = [pytest.mark.xdist_group("journeys"), pytest.mark.timeout(400)]


def catalogue_with_leaky_generators(out: Path) -> Path:
    code = "from workers.catalogue import catalogue_text; print(catalogue_text())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(LEAKY)},
        capture_output=True,
        text=True,
        check=True,
    )
    out.write_text(done.stdout, encoding="utf-8")
    return out


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("journey")
    with pytest.MonkeyPatch.context() as patch:
        catalogue = catalogue_with_leaky_generators(folder / "catalogue.json")
        patch.setenv("PYTHONPATH", str(LEAKY))
        patch.setenv("KAIMA_CATALOGUE_FILE", str(catalogue))
        patch.setenv("OMP_NUM_THREADS", "1")
        with running_stack(folder / "state", keep=False) as running:
            yield running


@pytest.fixture(scope="module")
def operator_key(stack):
    return first_operator_key(stack)


@pytest.fixture
def actors(stack, operator_key, request):
    """Return the people of a hospital of their own, so that no test meets another's persons."""
    made = make_actors(stack.web_url, operator_key, name=request.node.name)
    yield made
    made.close()


def phantoms(folder: Path, *, persons: int, seed: int) -> Path:
    out = folder / "phantoms.zip"
    command = [sys.executable, "-m", "training.phantoms", "--persons", str(persons)]
    subprocess.run(
        [*command, "--out", str(out), "--pixels", "32", "--seed", str(seed)],
        check=True,
        capture_output=True,
    )
    return out


def walkthrough(folder: Path, actors, *, generator: str, seed: int) -> Walkthrough:
    upload = phantoms(folder, persons=PERSONS, seed=seed)
    request = Request(
        upload=upload,
        declaration=declare(upload, label="kl_grade", labels=LABELS, unit=UnitOfPrivacy.PERSON),
        epsilon=8.0,
        delta=1e-5,
        tier="enclave",
        generator=generator,
        config={},
        samples=600,
    )
    return Walkthrough(actors, request, Display(Console(file=io.StringIO())), folder)


def check_what_training_would_take(walk: Walkthrough) -> None:
    """Ask for the plan, wait for the worker's dry run, and ask again."""
    owner, asked = walk.actors.owner, walk.request

    def plan() -> TrainingPlan:
        return owner.plan_training(
            walk.record.version.id,
            generator=asked.generator,
            epsilon=asked.epsilon,
            tier=asked.tier,
            samples=asked.samples,
        )

    first = plan().estimate
    assert first.state == "pending"
    owner.wait(first.job_id)
    found = plan()
    assert (found.accepted, found.estimate.state) == (True, "ready")
    assert 0 < found.estimate.seconds < 300
    assert found.estimate.peak_bytes > 10**7


def test_a_dataset_is_shared_from_upload_to_verified_download(actors, tmp_path):
    walk = walkthrough(tmp_path, actors, generator="statistics", seed=1)
    walk.upload()
    assert walk.record.version.person_count == PERSONS
    assert walk.record.version.record_count == 2 * PERSONS
    check_what_training_would_take(walk)
    walk.train()
    walk.check_verdict()
    walk.review()
    assert walk.record.release.state == "approved"
    walk.publish()
    assert walk.record.release.state == "published"
    bundle = walk.download()
    public_key = tmp_path / "public_key.pem"
    public_key.write_text(actors.collaborator.instance().public_key)

    verification = verify_and_tamper(bundle, public_key=public_key, scratch=tmp_path)

    assert verification.accepted, verification.answer
    assert verification.tampered_refused
    assert verification.answer["epsilon_rederived"] <= 8.0
    summary = summarise(
        walk.request,
        walk.record,
        verification=verification,
        seconds={},
        out=tmp_path,
        exit_reason="verified",
    )
    assert summary["epsilon"]["rederived"] <= summary["epsilon"]["requested"]
    assert summary["epsilon"]["charged"] <= summary["epsilon"]["reserved"] <= 8.0
    assert summary["steps"]["taken"] == summary["steps"]["planned"] > 0
    assert summary["release"]["approvers_count"] == 2
    assert summary["leaky_specimen"]["verdict"] == "FAIL"
    arms = summary["persons"]
    assert arms["train"] + arms["reference"] + arms["audit_out"] <= arms["total"] == PERSONS
    json.dumps(summary)


def test_a_generator_that_copies_its_training_data_is_stopped(actors, tmp_path):
    walk = walkthrough(tmp_path, actors, generator="copycat", seed=2)
    walk.upload()
    walk.train()

    report = walk.record.report

    assert report["verdict"] == "FAIL"
    assert report["verdicts"]["near_copies"] == "FAIL"
    with pytest.raises(NotReleasable, match="FAIL"):
        walk.check_verdict()
    release = actors.owner.create_release(
        walk.record.dataset.id, audit_job_id=walk.record.audit.id, name="copies", terms="None."
    )
    actors.owner.submit_release(release.id)
    with pytest.raises(ProblemError) as refusal:
        actors.auditors[0].review_release(release.id, decision="approve", reason="It looks real.")
    assert refusal.value.status in {403, 409, 422}
    assert "FAIL" in str(refusal.value)


def test_the_same_persons_do_not_buy_a_second_budget(actors, tmp_path):
    walk = walkthrough(tmp_path, actors, generator="statistics", seed=3)
    walk.upload()
    request = dataclasses.replace(walk.request, name="The same file again")
    again = Walkthrough(actors, request, walk.display, tmp_path)

    with pytest.raises(JobFailed, match=r"cohort|budget"):
        again.upload()
