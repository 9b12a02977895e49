"""From an upload to a published bundle, through real children, database and object store."""

import csv
import json
import zipfile

import numpy as np
import pytest

from privacy import bundle, signing
from privacy.evidence import Arm
from privacy.manifests import DatasetManifest, GeneratorManifest, SamplesManifest
from service.domain.accounts import Actor
from service.domain.jobs import JobKind, JobState
from service.domain.releases import Decision, ReleaseState
from service.operations import datasets, releases
from service.store.objects import Bucket
from tests.workers.service_stack import Service, phantom_schema, running_service
from training.phantoms import upload as phantoms

PERSONS = 80


@pytest.fixture(scope="module")
def service(tmp_path_factory, object_store):
    folder = tmp_path_factory.mktemp("service")
    with running_service(folder, object_store) as found:
        yield found


def test_thin(service, tmp_path):
    path = tmp_path / "phantoms.zip"
    import subprocess, sys

    subprocess.run(
        [
            sys.executable,
            "-m",
            "training.phantoms",
            "--persons",
            str(PERSONS),
            "--pixels",
            "32",
            "--format",
            "png",
            "--out",
            str(path),
        ],
        check=True,
    )
    job = service.upload(path, phantom_schema(PERSONS))
    service.work()
    job = service.job(job.id)
    assert job.state is JobState.SUCCEEDED, job.problem
    train = service.train(job.version_id)
    service.work()
    for kind in (JobKind.TRAIN, JobKind.SAMPLE, JobKind.AUDIT):
        for j in service.jobs_of(kind):
            print(j.kind, j.state, j.problem, j.result)
            assert j.state is JobState.SUCCEEDED, j.problem
