"""The benchmark of epsilon bounds: rows as the interface names them, truths that are true."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import special

from benchmarks import epsilon_bounds
from benchmarks.epsilon_bounds import main
from benchmarks.epsilon_mechanisms import DELTA, all_or_nothing, mechanisms

KEYS = {
    "mechanism", "parameter", "epsilon_true", "delta", "m", "guesses", "confidence", "estimator",
    "tool", "version", "runs", "violations", "positives", "mean_bound", "median_bound",
    "max_certifiable", "reference_mean", "ratio_to_reference",
}  # fmt: skip


def measured(folder, *options):
    path = folder / "out.json"
    done = CliRunner().invoke(main, ["--json", str(path), "--peers", "none", *options])
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_row_has_what_the_interface_names_and_a_reason_for_what_is_missing(tmp_path):
    found = measured(tmp_path, "--runs", "2")
    assert not found["failures"]
    assert {r["mechanism"] for r in found["results"]} >= {k.name for k in mechanisms()}
    for row in found["results"]:
        assert set(row) >= KEYS
        assert row["runs"] == 2
        for key, value in row.items():
            assert value is not None or row[f"{key}_reason"]
    assert {row["refuted"] for row in found["claims"]} <= {0, 1, 2}


@pytest.mark.slow
def test_a_peer_that_cannot_be_installed_is_a_failure_with_a_reason_and_loses_nothing(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(
        epsilon_bounds, "_INSTALLS", (("--no-index", "--quiet", "no-such-package-anywhere"),)
    )
    path = tmp_path / "out.json"
    done = CliRunner().invoke(main, ["--json", str(path), "--runs", "2"])
    assert done.exit_code == 0, (done.output, done.exception)
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["results"]
    (peers,) = [f for f in found["failures"] if f["what"] == "peers"]
    assert "no-such-package-anywhere" in peers["reason"]


def test_the_mechanism_that_answers_all_or_nothing_keeps_to_its_curve():
    known = all_or_nothing()
    epsilons = np.linspace(0, 1.2, 50)
    answered = (np.exp(1.2) - np.exp(epsilons)) / (1 + np.exp(1.2))
    gaussian = special.ndtr(0.5 - epsilons) - np.exp(epsilons) * special.ndtr(-0.5 - epsilons)
    assert (known.parameter * answered <= gaussian).all()
    at_truth = (np.exp(1.2) - np.exp(known.truths["any"])) / (1 + np.exp(1.2))
    assert known.parameter * at_truth == pytest.approx(DELTA)


@pytest.mark.slow
def test_no_estimator_of_ours_errs_more_often_than_declared_or_falls_short_of_its_reference(
    tmp_path,
):
    found = measured(tmp_path, "--runs", "200", "--seed", "1")
    for row in found["results"]:
        assert row["violations"] <= 21, row
        assert row["ratio_to_reference"] is None or row["ratio_to_reference"] >= 0.9, row
        if row["mechanism"] == "noise":
            assert row["positives"] <= 21
    for claim in found["claims"]:
        if claim["claimed_mu"] == claim["true_mu"]:
            assert claim["refuted"] <= 21
