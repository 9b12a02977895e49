"""An audit compares the whole run with the plan that was committed to before it."""

from dataclasses import replace

import numpy as np
import pytest

from privacy.policy import load_policy
from privacy.report import Verdict
from service.domain.datasets import StoredReservation
from service.domain.jobs import Job, JobKind
from service.domain.trail import TrailEvent
from service.operations import jobs
from service.store.keys import Keys
from tests.workers.service_stack import Service, phantom_schema, running_service
from workers import audit
from workers.context import JobContext
from workers.dataset_files import fetch_dataset
from workers.generator_files import fetch_generator, fetch_samples
from workers.modalities.contract import StoredDataset, StoredSamples

pytestmark = [pytest.mark.xdist_group("provenance"), pytest.mark.timeout(300)]

PERSONS = 80


@pytest.fixture(scope="module")
def service(tmp_path_factory, object_store):
    with running_service(tmp_path_factory.mktemp("service"), object_store) as found:
        yield found


@pytest.fixture(scope="module")
def sampled(service, tmp_path_factory) -> Job:
    """Return the queued AUDIT job of a real training."""
    path = tmp_path_factory.mktemp("upload") / "upload.npz"
    rng = np.random.default_rng(0)
    np.savez(
        path,
        train_images=rng.integers(0, 256, (2 * PERSONS, 32, 32)).astype(np.uint8),
        train_labels=np.arange(2 * PERSONS) % 5,
        train_patient_ids=np.array([f"patient-{n}" for n in range(PERSONS)]).repeat(2),
    )
    ingest = service.upload(path, phantom_schema(PERSONS))
    service.work()
    service.train(service.job(ingest.id).version_id)
    service.work(until=JobKind.SAMPLE)
    (job,) = service.jobs_of(JobKind.AUDIT)
    return job


@pytest.fixture
def context(service, sampled, tmp_path) -> JobContext:
    return JobContext(service.application, sampled, "token", tmp_path, lambda *_, **__: None)


class Run:
    """What an audit fetches, and what it finds wrong with it."""

    def __init__(self, context: JobContext, service: Service) -> None:
        """Fetch everything once."""
        self.context = context
        self.training = service.job(context.job.payload["train_job_id"])
        sampling = service.job(context.job.payload["sample_job_id"])
        self.dataset: StoredDataset = fetch_dataset(context, self.training.version_id)
        self.generator, _ = fetch_generator(context, self.training)
        self.samples: StoredSamples = fetch_samples(context, sampling)

    def problems(self) -> tuple[str, ...]:
        """Return what is wrong."""
        return audit.provenance_problems(
            self.context,
            self.training,
            self.dataset,
            generator=self.generator,
            samples=self.samples,
        )

    def mechanisms(self, **changes: object) -> None:
        """Let the generator's first mechanism be another one than it was."""
        first = self.generator.mechanisms[0].model_copy(update=changes)
        mechanisms = (first, *self.generator.mechanisms[1:])
        self.generator = self.generator.model_copy(update={"mechanisms": mechanisms})
        self._name_the_generator()

    def _name_the_generator(self) -> None:
        manifest = self.samples.manifest.model_copy(update={"generator": self.generator.digest()})
        self.samples = replace(self.samples, manifest=manifest)

    def generator_of(self, **changes: object) -> None:
        """Let the generator say something else of itself."""
        self.generator = self.generator.model_copy(update=changes)
        self._name_the_generator()

    def samples_of(self, **changes: object) -> None:
        """Let the samples say something else of themselves."""
        manifest = self.samples.manifest.model_copy(update=changes)
        self.samples = replace(self.samples, manifest=manifest)

    def parts(self, **changes: object) -> None:
        """Let the instance have other keys or another policy."""
        application = self.context.application
        changed = replace(application, parts=replace(application.parts, **changes))
        self.context = replace(self.context, application=changed)


@pytest.fixture
def run(context, service) -> Run:
    return Run(context, service)


def test_an_honest_run_has_no_problem(run):
    assert run.problems() == ()


def other_policy(folder):
    """Write a policy that differs in its version."""
    from importlib import resources

    text = (resources.files("privacy") / "policy.toml").read_text(encoding="utf-8")
    path = folder / "policy.toml"
    path.write_text(text + "\n# A comment changes the digest.\n", encoding="utf-8")
    return load_policy(path)


CHANGES = {
    "less noise": (lambda run: run.mechanisms(noise_multiplier=0.01), "list of mechanisms"),
    "more steps": (lambda run: run.mechanisms(steps=2), "list of mechanisms"),
    "another stage": (lambda run: run.mechanisms(stage="else"), "list of mechanisms"),
    "no mechanism": (lambda run: run.generator_of(mechanisms=()), "list of mechanisms"),
    "another job": (lambda run: run.generator_of(job_id="job_x"), "job of the generator"),
    "another dataset": (lambda run: run.generator_of(dataset="0" * 64), "dataset of the"),
    "another config": (lambda run: run.generator_of(config={"x": 1}), "config of the"),
    "another generator": (lambda run: run.samples_of(generator="0" * 64), "generator of the"),
    "fewer samples": (lambda run: run.samples_of(count=3), "number of samples"),
    "other keys": (lambda run: run.parts(keys=Keys(b"k" * 32)), "does not open"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_departs_from_the_plan_is_named(run, name):
    change, sentence = CHANGES[name]
    change(run)
    (problem,) = run.problems()
    assert sentence in problem


def test_another_policy_is_named(run, tmp_path):
    run.parts(policy=other_policy(tmp_path))
    (problem,) = run.problems()
    assert "its policy is not" in problem


@pytest.mark.parametrize("name", ["tier", "samples", "rates", "mechanisms"])
def test_a_plan_that_was_rewritten_no_longer_opens_its_commitment(run, name):
    plan = {**run.training.payload["plan"], name: "another"}
    run.training.payload = {**run.training.payload, "plan": plan}
    (problem,) = run.problems()
    assert "does not open the commitment" in problem


def test_a_reservation_that_is_not_the_planned_one_is_named(run, service):
    with service.application.uow() as uow:
        stored = uow.get(StoredReservation, run.training.id)
        honest = stored.mechanisms
        stored.mechanisms = [{**honest[0], "noise_multiplier": 0.01}, *honest[1:]]
        uow.without_trail("the test plays somebody who tampers")
    try:
        (problem,) = run.problems()
    finally:
        with service.application.uow() as uow:
            uow.get(StoredReservation, run.training.id).mechanisms = honest
            uow.without_trail("the test puts it back")
    assert "its mechanisms is not" in problem


def test_a_departure_makes_the_report_invalid(context, monkeypatch):
    monkeypatch.setattr(audit, "fetch_generator", with_less_noise(audit.fetch_generator))
    result = audit.run(context)
    assert result["verdict"] == Verdict.INVALID.value


def with_less_noise(fetch):
    """Return a fetch whose generator claims more noise than was reserved."""

    def fetched(context, training):
        manifest, fitted = fetch(context, training)
        first = manifest.mechanisms[0].model_copy(update={"noise_multiplier": 1e6})
        return manifest.model_copy(update={"mechanisms": (first, *manifest.mechanisms[1:])}), fitted

    return fetched


def test_a_commitment_made_late_or_twice_is_none(run, service):
    with service.application.uow() as uow:
        training = jobs.load_job(uow, run.training.id)
        uow.trail(
            service.owner,
            TrailEvent.JOB_COMMIT_PLAN,
            training.id,
            commitment=training.payload["commitment"],
        )
    (problem,) = run.problems()
    assert "exactly one such commitment" in problem
