"""The utility benchmark: its document has every promised key, and nobody is on both sides."""

import gzip
import io
import json
import zipfile

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from benchmarks import image_sets
from benchmarks.utility import main, resolved_preset
from privacy.mechanisms import UnitOfPrivacy

PER_SEED = {
    "data", "test", "protocol", "generator", "relabelled", "unit", "persons_train", "images_train",
    "persons_test", "epsilon_requested", "epsilon_rederived", "delta", "mechanisms", "device",
    "fit_seconds", "sample_seconds", "samples", "label_distribution", "scores",
}  # fmt: skip
PER_RUN = {
    "configs_tried_on_this_data", "summary", "real_baseline", "ratio_to_real",
    "dp_classifier_ceiling", "augmentation_curve", "contact_sheet", "results", "failures",
    "schema_version", "benchmark", "started_at", "seconds", "command", "machine", "versions",
    "git_commit", "seed",
}  # fmt: skip
SCORES = {"accuracy", "balanced_accuracy", "qwk", "auc", "binary_rule"}


def write_zip(path, persons, *, seed, splits=("train",), prefix="P"):
    """Two images per person; the label is the brightness."""
    rng = np.random.default_rng(seed)
    lines = ["file,patient_id,grade,split"]
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(2 * persons):
            person, grade = number // 2, int(rng.integers(0, 3))
            pixels = rng.integers(60 * grade, 60 * grade + 50, (16, 16)).astype(np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            archive.writestr(f"images/{number}.png", buffer.getvalue())
            split = splits[person % len(splits)]
            lines.append(f"images/{number}.png,{prefix}{person},{grade},{split}")
        archive.writestr("labels.csv", "\n".join(lines))
    return path


def load(path, test="same", unit=UnitOfPrivacy.PERSON, **more):
    return image_sets.load(str(path), label="grade", test=str(test), unit=unit, **more)


def test_the_split_column_divides_persons(tmp_path):
    real = load(write_zip(tmp_path / "a.zip", 150, seed=0, splits=("train", "train", "val")))
    assert len(real.train) == 200
    assert len(real.test) == 100
    assert not set(real.train.persons) & set(real.test.persons)
    assert real.schema.declared_count == 100  # persons of the training side, rounded


def test_a_file_is_the_same_set_each_time_it_is_read(tmp_path):
    path = write_zip(tmp_path / "a.zip", 120, seed=6, splits=("train", "val"))
    first, second = load(path), load(path)
    assert first.digest == second.digest  # names what earlier runs left, and counts configurations
    assert list(first.train.persons[:4]) == [0, 0, 2, 2]


def test_a_person_of_both_files_is_not_tested_on(tmp_path):
    train = write_zip(tmp_path / "a.zip", 60, seed=1)
    test = write_zip(tmp_path / "b.zip", 80, seed=2)
    real = load(train, test)
    assert len(np.unique(real.test.persons)) == 20
    assert "60 test persons were left out" in real.notes[0]
    apart = load(train, test, ids_are_per_file=True)
    assert len(np.unique(apart.test.persons)) == 80


def test_a_copied_image_is_not_tested_on_whatever_its_id(tmp_path):
    train = write_zip(tmp_path / "a.zip", 60, seed=3)
    same = write_zip(tmp_path / "b.zip", 60, seed=3, prefix="Q")
    with pytest.raises(click.ClickException, match="every person in it is in the training file"):
        load(train, same)


def test_a_set_without_splits_is_refused_with_a_remedy(tmp_path):
    path = write_zip(tmp_path / "a.zip", 60, seed=4)
    with pytest.raises(click.ClickException, match=r"--test PATH\.zip"):
        load(path)


def test_missing_public_sets_say_what_to_install(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KAIMA_DATA", str(tmp_path))
    monkeypatch.setattr(image_sets, "FASHION_FOLDER", tmp_path / "nowhere")
    with pytest.raises(click.ClickException, match="dataset-fashion-mnist"):
        load("fashion_mnist", unit=UnitOfPrivacy.RECORD)
    with pytest.raises(click.ClickException, match=r"mnist\.npz"):
        load("mnist", unit=UnitOfPrivacy.RECORD)


def test_idx_files_are_read(tmp_path, monkeypatch):
    def idx(values):
        head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
        return gzip.compress(head + values.astype(np.uint8).tobytes())

    images, labels = np.arange(60 * 64).reshape(60, 8, 8) % 251, np.arange(60) % 10
    for part in ("train", "t10k"):
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(images))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx(labels))
    monkeypatch.setenv("KAIMA_DATA", str(tmp_path))
    real = load("fashion_mnist", unit=UnitOfPrivacy.RECORD)
    assert np.array_equal(real.train.images, images)
    assert np.array_equal(real.test.labels, labels)


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    folder = tmp_path_factory.mktemp("utility")
    data = write_zip(folder / "a.zip", 90, seed=5, splits=("train", "train", "val"))
    arguments = [
        "--data", str(data), "--label", "grade", "--generator", "statistics", "--epsilon", "8",
        "--set", "teacher=relabel", "--set", "teacher_steps=3", "--samples", "100",
        "--most-steps", "2", "--minutes", "5", "--configs-tried", "2", "--no-augmentation",
        "--out", str(folder / "out"), "--json", str(folder / "out.json"),
    ]  # fmt: skip
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return json.loads((folder / "out.json").read_text(encoding="utf-8")), folder / "out"


def test_the_document_has_every_promised_key(document):
    found, _ = document
    assert not found["failures"]
    assert found.keys() >= PER_RUN
    for result in found["results"]:
        assert result.keys() >= PER_SEED
        assert set(result["trts"]) == {"cnn", "mlp", "hog_linear"}
        assert "trts_reason" not in result
        assert "label priors" in result["fidelity"]["note"]
        assert {result["scores"][n]["steps"] for n in ("cnn", "mlp", "hog_linear")} == {2}
        assert set(result["scores"]) == {"cnn", "mlp", "hog_linear", "mean"}
        for scores in result["scores"].values():
            assert scores.keys() >= SCORES
    for entry in found["summary"].values():
        assert entry.keys() >= {"mean", "ci_low", "ci_high", "seeds"}


def test_scores_with_and_without_the_teacher_come_from_one_fit(document):
    found, _ = document
    assert [result["relabelled"] for result in found["results"]] == [True, False]
    assert len({result["fit_seconds"] for result in found["results"]}) == 1
    assert "without_teacher.accuracy" in found["summary"]


def test_epsilon_is_derived_again_from_the_mechanisms_and_met(document):
    found, _ = document
    for result in [*found["results"], found["dp_classifier_ceiling"]]:
        assert 0 < result["epsilon_rederived"] <= 8 + 1e-3
        assert result["mechanisms"]
    assert found["dp_classifier_ceiling"]["auc"] is not None


def test_the_ceiling_has_the_settings_of_the_generators_teacher(document):
    found, _ = document
    ceiling, ours = found["dp_classifier_ceiling"]["config"], found["results"][0]["config"]
    assert ceiling == {name: ours[name] for name in ceiling}
    assert ceiling["teacher_steps"] == 3


@pytest.mark.parametrize(
    ("generator", "device", "preset"),
    [
        ("statistics", "cpu", "best"),
        ("mixture", "cpu", "best"),
        ("phantoms", "cpu", "best"),
        ("diffusion", "cpu", "balanced"),
        ("wasserstein_gan", "cpu", "balanced"),
        ("diffusion", "cuda", "best"),
        ("wasserstein_gan", "cuda", "best"),
    ],
)
def test_the_automatic_preset_suits_generator_and_device(generator, device, preset):
    assert resolved_preset("auto", generator, torch.device(device)) == preset
    assert resolved_preset("quick", generator, torch.device(device)) == "quick"
    assert resolved_preset("none", generator, torch.device(device)) is None


def test_the_document_names_the_preset_that_was_taken(document):
    found, _ = document
    assert (found["preset_asked"], found["preset"]) == ("auto", "best")
    assert {result["preset"] for result in found["results"]} == {"best"}
    assert found["labels_are_ordered"] is False  # three grades: nobody said that they have an order


def test_what_was_not_computed_is_null_with_a_reason(document):
    found, _ = document
    assert found["augmentation_curve"] is None
    assert found["augmentation_curve_reason"] == "switched off"


def test_fewer_classifiers_and_no_set_without_the_teacher_when_asked(document, tmp_path):
    _, folder = document
    arguments = [
        "--data", str(folder.parent / "a.zip"), "--label", "grade", "--generator", "statistics",
        "--epsilon", "8", "--set", "teacher=relabel", "--set", "teacher_steps=3",
        "--samples", "100", "--most-steps", "2", "--no-shortcut", "--augmentation",
        "--augmentation-seeds", "1", "--classifiers", "cnn", "--teacher-only",
        "--out", str(folder), "--json", str(tmp_path / "out.json"),
    ]  # fmt: skip
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [set(result["scores"]) for result in found["results"]] == [{"cnn", "mean"}]
    assert found["protocol_details"]["classifiers_taught"] == ["cnn"]
    assert found["real_baseline_details"]["networks_kept_from_an_earlier_run"] == [True]
    known = [row for row in found["augmentation_curve"] if row["metric"] == "accuracy"]
    assert {row["seeds"] for row in known} == {1}


def test_labels_are_uniform_and_configurations_are_counted(document):
    found, _ = document
    assert max(found["results"][0]["label_distribution"]) <= 0.34
    assert found["configs_tried_on_this_data"] == 3  # this one and the two named
    assert found["is_complete"]
    assert "leaves out" in found["ratio_note"]
    assert found["command"][:3] == ["python", "-m", "benchmarks.utility"]
    assert "does not cover" in found["configs_note"]


def test_the_folder_holds_samples_a_sheet_and_private_networks(document):
    found, folder = document
    with np.load(folder / "a-statistics-eps8-seed0.npz") as arrays:
        assert arrays["train_images"].shape == (100, 16, 16)
    assert found["contact_sheet"].endswith("a-statistics-eps8-seed0.png")
    networks = list(folder.glob("real-baseline-*.safetensors"))
    assert len(networks) == 3
    assert all(path.stat().st_mode & 0o077 == 0 for path in networks)
