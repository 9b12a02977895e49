"""The benchmark of a step keeps what it measured, whatever fails; its envelope tells no folders."""

import json
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from benchmarks import dp_step, envelope
from benchmarks.dp_step import main

SMALL = [
    "--persons", "3", "--physical-batch", "4", "--features", "8", "--pixels", "8", "--draws", "1",
    "--rounds", "1", "--seconds-per-case", "0",
]  # fmt: skip


def run(folder, *more):
    done = CliRunner().invoke(main, ["--json", str(folder / "out.json"), *SMALL, *more])
    return done, folder / "out.json"


@pytest.fixture
def quick(monkeypatch):
    """Leave out what takes seconds: a fresh process for each method's memory, and the float64 loop."""
    monkeypatch.setattr(dp_step, "_peak_in_fresh_process", lambda _method, _case: 1024)
    monkeypatch.setattr(dp_step, "gradient_max_error", lambda _seed: 1e-6)


def test_a_failing_plain_step_loses_no_other_row(tmp_path, monkeypatch, quick):
    real = dp_step.stepper

    def stepper(method, case):
        if method == "plain":
            raise RuntimeError("no plain step today")
        return real(method, case)

    monkeypatch.setattr(dp_step, "stepper", stepper)
    monkeypatch.setattr(dp_step, "METHODS", ("ours", "plain"))
    done, path = run(tmp_path)
    assert done.exit_code == 0, (done.output, done.exception)
    ours, plain = json.loads(path.read_text(encoding="utf-8"))["results"]
    assert ours["ran"]
    assert ours["seconds_median"] > 0
    assert ours["ratio_to_plain"] is None
    assert ours["ratio_to_plain_reason"]
    assert "no plain step today" in plain["reason"]


def test_an_unknown_error_is_null_with_its_reason(tmp_path, monkeypatch, quick):
    monkeypatch.setattr(dp_step, "METHODS", ("plain",))
    monkeypatch.setattr(dp_step, "gradient_max_error", lambda _seed: float("nan"))
    done, path = run(tmp_path)
    assert done.exit_code == 0, (done.output, done.exception)
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["gradient_max_error"] is None
    assert "nan" in found["gradient_max_error_reason"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_refused_in_one_sentence(tmp_path):
    done, path = run(tmp_path, "--device", "cuda")
    assert done.exit_code == 2
    assert (
        done.output == "Error: --device cuda was refused: torch finds no GPU. Give --device cpu.\n"
    )
    assert not path.exists()


@pytest.mark.parametrize("wrong", [["--pixels", "0"], ["--draws", "0"], ["--device", "tpu"]])
def test_a_number_out_of_range_is_refused(tmp_path, wrong):
    done, path = run(tmp_path, *wrong)
    assert done.exit_code == 2
    assert not path.exists()


def test_a_document_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "out.json"
    benchmark = envelope.Benchmark("dp_step", seed=0)
    benchmark.write(path)
    before = path.read_bytes()
    benchmark.extra["bad"] = object()
    with pytest.raises(TypeError):
        benchmark.write(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_command_tells_no_folder_outside_the_repository(monkeypatch):
    root = Path(envelope.__file__).resolve().parent.parent
    arguments = [f"{root}/build/a.json", "/elsewhere/secret/b.zip", "--out=/elsewhere/c", "KL>=2"]
    monkeypatch.setattr(sys, "argv", ["x", *arguments, "../../../elsewhere/d.zip", "--set", "a=1"])
    shown = envelope.Benchmark("utility", seed=0).document()["command"][3:]
    assert shown == ["build/a.json", "b.zip", "--out=c", "KL>=2", "d.zip", "--set", "a=1"]
