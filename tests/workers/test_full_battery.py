"""A full battery with reference models through real workers: what it adds reaches the report."""

import json
import re

import numpy as np
import pytest

from privacy import policy
from service.domain.jobs import JobKind, JobState
from service.store.objects import Bucket
from tests.workers.service_stack import phantom_schema, running_service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PERSONS = 2200  # so that reference half a has the 200 pictures that a copy embedding needs


def thorough_policy(folder):
    """Write the shipped policy, asking for a full battery with two reference models."""
    text = policy._DEFAULT.read_text(encoding="utf-8")
    text, count = re.subn(r"^depth = .*$", 'depth = "full"', text, flags=re.MULTILINE)
    assert count == 1
    path = folder / "policy.toml"
    path.write_text(text.replace("[grid]\n", "[grid]\nreference_models = 2\n"), encoding="utf-8")
    return path


def blurred(rng):
    small = rng.integers(30, 226, (PERSONS, 4, 4)).astype(np.uint8)
    grain = rng.integers(0, 30, (PERSONS, 32, 32)).astype(np.uint8)
    return np.kron(small, np.ones((1, 8, 8), np.uint8)) + grain


def test_reference_models_and_a_copy_embedding_reach_the_report(tmp_path, object_store):
    rng = np.random.default_rng(0)
    upload = tmp_path / "upload.npz"
    np.savez(
        upload,
        train_images=blurred(rng),
        train_labels=np.arange(PERSONS) % 5,
        train_patient_ids=np.array([f"patient-{n}" for n in range(PERSONS)]),
    )
    chosen = str(thorough_policy(tmp_path))
    with running_service(tmp_path / "service", object_store, KAIMA_POLICY_FILE=chosen) as service:
        ingest = service.upload(upload, phantom_schema(PERSONS), delta="0.00004")
        service.work()
        service.train(
            service.job(ingest.id).version_id,
            generator="diffusion",
            config={"steps": 2, "expected_batch_size": 64, "warm_up_steps": 5, "features": 16},
            samples=200,
        )
        service.work()
        (audit,) = service.jobs_of(JobKind.AUDIT)
        assert audit.state is JobState.SUCCEEDED, audit.problem
        report, utility = (
            json.loads(service.application.parts.objects.get_bytes(Bucket.WORK, audit.result[name]))
            for name in ("report", "utility")
        )
    findings = {finding["audit"]: finding for finding in report["findings"]}
    attacks = findings["loss_membership"]["details"]["attacks"]
    assert {"lira_diffusion_loss", "rmia_diffusion_loss"} <= set(attacks), attacks
    copies = {metric["name"]: metric for metric in findings["near_copies"]["metrics"]}
    assert copies["embedding_pictures"]["value"] >= 200
    assert report["depth"] == "full"
    assert utility["computed"]
    # Which of the two depends on the machine's load.
    assert ("augmentation_curve" in utility) != ("augmentation_reason" in utility)
