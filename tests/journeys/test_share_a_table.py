"""A table from upload to verified download, over HTTP, against every real component."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from service.client import JobFailed
from service.walkthrough.actors import make_actors
from service.walkthrough.declaration import declare_table
from service.walkthrough.display import Display
from service.walkthrough.stack import first_operator_key, running_stack
from service.walkthrough.steps import Request, Walkthrough
from service.walkthrough.summary import summarise
from service.walkthrough.verification import verify_and_tamper

PERSONS = 900

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("journeys"),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def actors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        with running_stack(folder / "state", keep=False) as stack:
            made = make_actors(stack.web_url, first_operator_key(stack))
            yield made
            made.close()


def walkthrough(folder: Path, actors) -> Walkthrough:
    table, schema = folder / "patients.csv", folder / "patients.toml"
    command = [sys.executable, "-m", "training.phantom_patients", "--persons", str(PERSONS)]
    subprocess.run(
        [*command, "--out", str(table), "--schema", str(schema)], check=True, capture_output=True
    )
    request = Request(
        upload=table,
        declaration=declare_table(table, schema),
        epsilon=8.0,
        delta=1e-5,
        tier="enclave",
        generator="mst",
        config={},
        samples=1500,
        name=f"Patients {folder.name}",
    )
    return Walkthrough(actors, request, Display(Console(file=io.StringIO())), folder)


def test_a_table_is_shared_from_upload_to_verified_download(actors, tmp_path):
    walk = walkthrough(tmp_path, actors)
    walk.upload()
    assert walk.record.version.person_count == PERSONS
    assert walk.record.version.record_count > PERSONS
    walk.train()
    walk.check_verdict()
    walk.review()
    walk.publish()
    assert walk.record.release.state == "published"
    seen = actors.collaborator.release(walk.record.release.id)
    assert (seen.modality, seen.columns[0], seen.image_count) == ("table", "visit_year", 1500)
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
    assert summary["rows"]["synthetic"] == 1500
    assert summary["rows"]["total"] == walk.record.version.record_count
    assert summary["images"]["reason"] == "the records are rows of a table"
    assert summary["label"] == "replaced"
    assert summary["leaky_specimen"]["verdict"] == "FAIL"
    json.dumps(summary)


def test_the_same_patients_do_not_buy_a_second_budget(actors, tmp_path):
    again = walkthrough(tmp_path, actors)
    with pytest.raises(JobFailed, match=r"already belong to the cohort.*join_dataset_id"):
        again.upload()
