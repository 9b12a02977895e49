"""Bundles open in the tools that people use for each format; the tools themselves are run."""

import json
import subprocess
import sys
import zipfile

import pytest

from privacy.bundle import write_zip
from service.domain.declarations import ReleaseDeclaration
from tests.workers.bundle_material import HOSTILE_LABELS, make_bundle, synthetic_set
from tests.workers.table_material import HOSTILE, make_table_bundle, synthetic_table


def run(repository, *bundles):
    return subprocess.run(
        [sys.executable, "-m", "tests.open_bundle", *map(str, bundles)],
        capture_output=True,
        text=True,
        cwd=repository,
        check=False,
    )


def test_a_bundle_opens_in_every_tool_and_a_changed_one_does_not(repository, tmp_path):
    folder = make_bundle(tmp_path / "bundle", synthetic_set(8, test_share=0.5))
    write_zip(folder, tmp_path / "bundle.zip")
    table = folder / "imagefolder" / "train" / "metadata.jsonl"
    table.write_text(table.read_text().replace('"label": "0"', '"label": "2"', 1))
    rows = make_table_bundle(tmp_path / "rows", synthetic_table(test_share=0.2))
    done = run(repository, tmp_path / "bundle.zip", rows, folder)
    assert done.returncode == 1, done.stdout + done.stderr
    whole, others = done.stdout.split(str(rows) + "\n")
    table_rows, changed = others.split(str(folder) + "\n")
    assert whole.count(" equal\n") == 2 * 7
    assert "All images and labels are equal, bit for bit." in whole
    assert table_rows.count(" equal\n") >= 2 * 7
    assert "All rows are equal, value for value." in table_rows
    assert "differ from" in changed


@pytest.mark.slow
def test_hostile_labels_16_bits_one_image_and_chosen_formats_open_as_well(repository, tmp_path):
    hostile = synthetic_set(16, labels=HOSTILE_LABELS, bit_depth=16, test_share=0.25)
    made = [
        make_bundle(tmp_path / "hostile", hostile),
        make_bundle(tmp_path / "one", synthetic_set(1, used=1)),
    ]
    for chosen in (("imagefolder",), ("parquet",), ("dicom", "medmnist")):
        declared = ReleaseDeclaration(formats=chosen)
        made.append(make_bundle(tmp_path / chosen[0], synthetic_set(), declared=declared))
    rows = make_table_bundle(tmp_path / "table", synthetic_table(80, schema=HOSTILE))
    done = run(repository, *made, rows)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("bit for bit") == len(made)
    assert done.stdout.count("value for value") == 1


def is_of_today(path):
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        return "certificate.json" in names and bool(
            json.loads(archive.read("certificate.json")).get("formats")
        )


@pytest.mark.slow
def test_the_bundle_of_the_demo_opens_in_every_tool(repository):
    bundles = sorted((repository / "build" / "demo").glob("*.zip"))
    published = [path for path in bundles if is_of_today(path)]
    if not published:
        pytest.skip("there is no bundle of a demo of today here; `make demo` makes one")
    done = run(repository, *published)
    assert done.returncode == 0, done.stdout + done.stderr
