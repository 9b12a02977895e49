"""Rows with an image each from upload to verified download, over HTTP, against every real component."""

import csv
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from rich.console import Console

from service.walkthrough.actors import make_actors
from service.walkthrough.declaration import UploadRefused, declare_table
from service.walkthrough.display import Display
from service.walkthrough.stack import first_operator_key, running_stack
from service.walkthrough.steps import Request, Walkthrough
from service.walkthrough.summary import summarise
from service.walkthrough.verification import verify_and_tamper

PERSONS = 400
SAMPLES = 600

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("journeys"),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def actors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        with running_stack(folder / "state", keep=False) as stack:
            made = make_actors(stack.web_url, first_operator_key(stack))
            yield made
            made.close()


def make_clinic(folder: Path) -> tuple[Path, Path]:
    upload, schema = folder / "clinic.zip", folder / "clinic.toml"
    command = [sys.executable, "-m", "training.phantom_clinic", "--persons", str(PERSONS)]
    command += ["--pixels", "24", "--out", str(upload), "--schema", str(schema)]
    subprocess.run(command, check=True, capture_output=True)
    return upload, schema


def test_rows_with_images_are_shared_from_upload_to_verified_download(actors, tmp_path):
    upload, schema = make_clinic(tmp_path)
    request = Request(
        upload=upload,
        declaration=declare_table(upload, schema),
        epsilon=8.0,
        delta=1e-5,
        tier="enclave",
        generator="rows_then_images",
        config={"rows": "mst"},
        samples=SAMPLES,
        name="Clinic",
    )
    walk = Walkthrough(actors, request, Display(Console(file=io.StringIO())), tmp_path)
    walk.upload()
    assert walk.record.version.person_count == PERSONS < walk.record.version.record_count
    walk.train()
    assert walk.record.report["modality"] == "joint"
    walk.check_verdict()
    walk.review()
    walk.publish()
    seen = actors.collaborator.release(walk.record.release.id)
    assert (seen.modality, seen.height, seen.image_count) == ("joint", 24, SAMPLES)
    bundle = walk.download()
    public_key = tmp_path / "public_key.pem"
    public_key.write_text(actors.collaborator.instance().public_key)

    verification = verify_and_tamper(bundle, public_key=public_key, scratch=tmp_path)

    assert verification.accepted, verification.answer
    assert verification.tampered_refused
    assert verification.answer["epsilon_rederived"] <= 8.0
    with zipfile.ZipFile(bundle) as archive:
        name = next(n for n in archive.namelist() if n.endswith("imagefolder/train/metadata.csv"))
        rows = list(csv.DictReader(io.StringIO(archive.read(name).decode())))
        assert len(rows) == SAMPLES
        folder = name.removesuffix("metadata.csv")
        assert {f"{folder}{row['file_name']}" for row in rows} <= set(archive.namelist())
    summary = summarise(
        walk.request,
        walk.record,
        verification=verification,
        seconds={},
        out=tmp_path,
        exit_reason="verified",
    )
    assert summary["rows"] == summary["images"]
    assert summary["rows"]["synthetic"] == SAMPLES
    # By the luck of the split so few of these persons may be held out that no leak can be planted.
    if walk.record.report["self_test"]:
        assert summary["leaky_specimen"]["verdict"] == "FAIL"
    else:
        assert walk.record.report["verdict"] == "INCONCLUSIVE"
    json.dumps(summary)


def test_a_schema_with_images_takes_a_zip_and_one_without_takes_none(tmp_path):
    upload, schema = make_clinic(tmp_path)
    table = tmp_path / "table.csv"
    table.write_text("file\n")
    with pytest.raises(UploadRefused, match=r"a table with its images that is there, as \.zip"):
        declare_table(table, schema)
    alone = tmp_path / "alone.toml"
    text = schema.read_text()
    start, end = text.index("[images]"), text.index("[[columns]]")
    alone.write_text(text[:start] + text[end:])
    with pytest.raises(UploadRefused, match=r"as \.csv or \.parquet"):
        declare_table(upload, alone)
