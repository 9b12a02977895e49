"""Bad input ends in one sentence and status 2 before anything runs; a failed run in status 1."""

import json
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.utility import _samples, main
from benchmarks.utility_measuring import Measuring
from benchmarks.utility_seed import Request, configuration_digest, plan
from privacy.manifests import DatasetSchema
from privacy.mechanisms import PrivacyTarget, UnitOfPrivacy
from tests.benchmarks.test_utility_benchmark import write_zip

SCHEMA = DatasetSchema(
    unit=UnitOfPrivacy.PERSON, declared_count=100, height=16, width=16, label="g", labels=("0", "1")
)


@pytest.fixture
def measured(monkeypatch):
    """Remember whether a run got as far as measuring."""
    begun = []
    monkeypatch.setattr(Measuring, "run", lambda _self, *_arguments: begun.append(True))
    return begun


def invoke(folder, data, *more, **given):
    options = {
        "--data": str(data), "--label": "grade", "--generator": "statistics", "--epsilon": "8",
        "--out": str(folder / "out"), "--json": str(folder / "out.json"),
    } | {f"--{name}": str(value) for name, value in given.items()}  # fmt: skip
    pairs = [word for pair in options.items() for word in pair]
    return CliRunner().invoke(main, [*pairs, *more])


def check(done, *words):
    assert done.exit_code == 2, (done.output, done.exception)
    assert done.output.startswith("Error: ")
    assert done.output.count("\n") == 1
    for word in words:
        assert word in done.output


@pytest.mark.parametrize("asked", ["forest", "mlp", "cnn,", ""])
def test_unknown_classifiers_or_none_that_is_the_headline_are_refused(tmp_path, asked):
    check(invoke(tmp_path, "mnist", classifiers=asked), "--classifiers", "headline is cnn")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    return write_zip(folder / "a.zip", 90, seed=0, splits=("train", "train", "val"))


def npz(path, **arrays):
    fine = {
        "train_images": np.zeros((60, 8, 8), np.uint8), "train_labels": np.arange(60) % 2,
        "test_images": np.zeros((60, 8, 8), np.uint8), "test_labels": np.arange(60) % 2,
    }  # fmt: skip
    np.savez(path, **{k: v for k, v in (fine | arrays).items() if v is not None})
    return path


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "a.npz"])
def test_a_set_without_persons_is_refused_for_the_unit_person(tmp_path, measured, name):
    place = npz(tmp_path / name) if name.endswith(".npz") else name
    check(invoke(tmp_path, place, unit="person"), "--unit person was refused", "--unit record")
    assert not measured


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"label": "stage"}, ("'stage'", "--label")),
        ({"test": "nowhere.zip"}, ("nowhere.zip",)),
        ({"binary-rule": "grade>=9"}, ("grade>=9", "1, 2")),
        ({"set": "no_such_field=1"}, ("--set no_such_field was refused", "teacher_steps")),
        ({"set": "teacher_steps=0"}, ("--set teacher_steps was refused", "0")),
        ({"set": "teacher_steps"}, ("FIELD=VALUE",)),
        ({"epsilon": "nan"}, ("epsilon",)),
    ],
)
def test_an_option_that_does_not_fit_is_refused(tmp_path, data, measured, options, words):
    check(invoke(tmp_path, data, **options), *words)
    assert not measured
    assert not (tmp_path / "out" / "configurations_tried.json").exists()


def test_files_that_are_no_sets_are_refused(tmp_path, measured):
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"no zip")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    few = write_zip(tmp_path / "few.zip", 60, seed=1, splits=("train", "val"))
    undivided = write_zip(tmp_path / "undivided.zip", 60, seed=2)
    check(invoke(tmp_path, tmp_path / "nowhere.zip"), "nowhere.zip")
    check(invoke(tmp_path, broken), "broken.zip")
    check(invoke(tmp_path, tmp_path / "empty.zip"), "CSV")
    check(invoke(tmp_path, few), "30 units", "50")
    check(invoke(tmp_path, undivided), "--test PATH.zip")
    check(invoke(tmp_path, undivided, test=undivided), "other persons")
    (tmp_path / "broken.npz").write_bytes(b"no arrays")
    check(invoke(tmp_path, tmp_path / "nowhere.npz"), "nowhere.npz")
    check(invoke(tmp_path, tmp_path / "broken.npz"), "broken.npz")
    assert not measured


@pytest.mark.parametrize(
    ("arrays", "word"),
    [
        ({"test_images": None}, "test_images"),
        ({"train_images": np.zeros((60, 8, 8, 3), np.uint8)}, "(60, 8, 8, 3)"),
        ({"train_images": np.zeros((60, 8, 8))}, "float64"),
        ({"train_labels": np.zeros(59, int)}, "train_labels"),
        ({"train_labels": np.zeros(60, int), "test_labels": np.zeros(60, int)}, "label"),
        ({"test_labels": np.full(60, 2)}, "beyond the 2"),
        ({"test_images": np.zeros((60, 9, 8), np.uint8)}, "(9, 8)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, measured, arrays, word):
    check(invoke(tmp_path, npz(tmp_path / "a.npz", **arrays)), word)
    assert not measured


@pytest.mark.parametrize("option", ["out", "json"])
def test_a_place_that_cannot_be_written_is_found_before_the_data_is_read(
    tmp_path, measured, option
):
    (tmp_path / "file").write_text("in the way")
    done = invoke(tmp_path, tmp_path / "nowhere.zip", **{option: tmp_path / "file" / "x"})
    check(done, f"--{option} was refused")
    assert not measured


def test_no_seed_with_scores_is_a_failure_and_leaves_its_document(tmp_path, data, monkeypatch):
    def fail(_self, _seed):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(Measuring, "_seed", fail)
    done = invoke(tmp_path, data, "--scores-only")
    assert done.exit_code == 1
    assert "out of luck" in done.output
    document = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert document["failures"][0]["what"] == "seed 0"
    assert document["contact_sheet_reason"]


def test_a_run_that_is_cut_short_leaves_the_seeds_that_it_finished(tmp_path, data, monkeypatch):
    def interrupt(_self, _seeds):
        raise KeyboardInterrupt

    monkeypatch.setattr(Measuring, "_baseline", interrupt)
    quick = ["--preset", "none", "--samples", "100", "--most-steps", "1", "--no-augmentation"]
    done = invoke(tmp_path, data, *quick, "--no-shortcut")
    assert done.exit_code == 1
    document = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert not document["is_complete"]
    assert document["summary"]["accuracy"]["mean"] is not None
    (result,) = document["results"]
    assert result["trts"] is None
    assert result["trts_reason"]
    assert document["real_baseline_reason"]
    assert document["preset"] is None
    assert document["preset_reason"]


def request(*, epsilon=1.0, **settings):
    return Request(
        generator="statistics",
        preset="best",
        settings=settings,
        is_ordinal=False,
        target=PrivacyTarget(epsilon=epsilon, delta=1e-5),
        unit=UnitOfPrivacy.PERSON,
        samples=100,
        minutes=None,
    )


def test_one_configuration_counts_once_whatever_its_epsilon():
    large = SCHEMA.model_copy(update={"declared_count": 10_000})
    configs = [plan(request(epsilon=epsilon), large)[0] for epsilon in (1, 10)]
    assert configs[0] != configs[1]  # the preset looks at epsilon
    digest = configuration_digest(request(epsilon=1), large)
    assert digest == configuration_digest(request(epsilon=10), large)
    assert digest == configuration_digest(request(teacher_steps=120), large)  # as the preset says
    assert digest != configuration_digest(request(teacher_steps=7), large)


@pytest.mark.parametrize(
    ("protocol", "declared", "drawn"),
    [
        ("light", 4_700, 20_000), ("light", 45_000, 45_000), ("light", 600_000, 60_000),
        ("dpimagebench", 4_700, 60_000),
    ],
)  # fmt: skip
def test_as_many_images_are_drawn_as_the_protocol_says_and_the_declared_count_allows(
    protocol, declared, drawn
):
    schema = DatasetSchema(declared_count=declared, height=8, width=8, label="l", labels=("a", "b"))
    assert _samples(schema, protocol) == drawn
