"""The benchmark of audits: rows of the agreed shape, growth as it is, bad input refused."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import audit_scale
from benchmarks.audit_scale import Records, main
from privacy.evidence import Arm


def test_growth_is_the_slope_of_seconds_over_samples():
    rows = [
        {"samples": n, "seconds": 2.0 * n, "cpu_seconds": 1.0 * n, "tier": "quick"}
        for n in (10, 20, 40)
    ]
    rows += [{"samples": n, "seconds": 7.0, "cpu_seconds": 7.0, "tier": "full"} for n in (10, 40)]
    found = audit_scale._exponents(rows)
    assert found["exponent"] == pytest.approx(1.0)
    assert found["exponents"]["full"] == pytest.approx(0.0)
    assert audit_scale._exponents(rows[:1])["exponent"] is None


def test_persons_who_share_an_image_are_found():
    images = np.arange(5 * 16, dtype=np.uint8).reshape(5, 4, 4)
    images[4] = images[0]
    records = Records("r", images, np.zeros(5, int), np.array([0, 0, 1, 2, 3]), schema=None)
    assert audit_scale._with_a_double(records).tolist() == [True, False, False, True]


def test_arms_are_drawn_as_the_service_draws_them():
    from privacy.manifests import DatasetSchema

    schema = DatasetSchema(declared_count=1000, height=8, width=8, label="g", labels=("0",))
    arms, folds = audit_scale._split(1000, schema)
    assert set(arms.tolist()) == {int(arm) for arm in Arm}
    assert set(folds.tolist()) == {1, 2}


@pytest.mark.parametrize(
    "options",
    [["--tier", "moon"], ["--generator", "dice"], ["--samples", "3"], ["--depth", "deep"]],
)
def test_bad_input_is_refused_before_anything_is_measured(tmp_path, options):
    done = CliRunner().invoke(main, ["--json", str(tmp_path / "out.json"), *options])
    assert done.exit_code == 2
    assert not (tmp_path / "out.json").exists()


@pytest.mark.slow
def test_a_row_has_the_agreed_keys(tmp_path, monkeypatch):
    monkeypatch.delenv("KAIMA_DATA", raising=False)
    out = tmp_path / "out.json"
    options = ["--samples", "100", "--samples", "200", "--depth", "quick", "--persons", "200"]
    done = CliRunner().invoke(main, ["--json", str(out), *options])
    assert done.exit_code == 0, done.output
    document = json.loads(out.read_text(encoding="utf-8"))
    assert document["failures"] == []
    assert document["data"] == "phantoms"
    assert [row["samples"] for row in document["results"]] == [100, 200]
    for row in document["results"]:
        assert {"samples", "persons", "pixels", "tier", "seconds", "peak_bytes", "verdict"} <= set(
            row
        )
        assert row["tier"] == "quick"
        assert row["peak_bytes"] > 2**26
        assert row["verdict"] != "INVALID"
    assert isinstance(document["exponent"], float)
