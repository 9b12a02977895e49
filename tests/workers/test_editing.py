"""Series, teaching sets and stress tests from a released set, as the command makes them."""

import csv
import json
import re

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper
from PIL import Image

from privacy.errors import InvalidParameter
from training.phantoms.batch import batch
from workers.editing.__main__ import main
from workers.editing.classifier import load_classifier
from workers.editing.source import read_released_set

SIDE = 32


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    images, grades = batch(400, pixels=SIDE, rng=np.random.default_rng(1))
    path = tmp_path_factory.mktemp("set") / "knees.npz"
    names = np.array(list("01234"))
    np.savez(path, train_images=images, train_labels=grades[:, None], label_names=names)
    return path


def model_of(path, weights, bias, *, channels=1, side=SIDE):
    """Write a linear classifier as ONNX: flattened image @ weights + bias."""
    kinds = len(bias)
    shape = ["N", channels, side, side]
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"], axis=1),
            helper.make_node("Gemm", ["flat", "w", "b"], ["answer"]),
        ],
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["N", kinds])],
        [
            helper.make_tensor(
                "w", TensorProto.FLOAT, weights.shape, weights.astype("f4").tobytes(), raw=True
            ),
            helper.make_tensor("b", TensorProto.FLOAT, [kinds], list(bias)),
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def brightness_model(tmp_path_factory):
    """A bad classifier: the brighter the image, the higher the grade."""
    cuts = np.linspace(0.40, 0.60, 4)
    weights = np.outer(np.full(SIDE * SIDE, 400.0 / SIDE**2), np.arange(5))
    bias = np.concatenate([[0.0], -np.cumsum(400.0 * cuts)])
    return model_of(tmp_path_factory.mktemp("model") / "bright.onnx", weights, bias)


def run(*arguments):
    done = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=True)
    if isinstance(done.exception, InvalidParameter):
        raise done.exception
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def test_a_series_is_a_sheet_and_numbers(released, tmp_path):
    out, numbers = tmp_path / "sheet.png", tmp_path / "series.json"
    run("series", released, "--vary", "joint_space=1:5:5", "--knees", "--hold", "exposure",
        "--images", 3, "--out", out, "--json", numbers)  # fmt: skip
    assert Image.open(out).size == (5 * SIDE, 3 * SIDE)
    told = json.loads(numbers.read_text())
    assert told["values"] == [1, 2, 3, 4, 5]
    measured = np.array(told["measured"])[:, :, told["attributes"].index("joint_space")]
    met = np.array(told["is_met"])
    assert met.mean() > 0.8
    assert np.abs(measured - told["values"])[met].max() < 0.2


def test_a_model_that_looks_at_brightness_changes_its_mind_with_exposure(
    released, brightness_model, tmp_path
):
    found = stressed(released, brightness_model, tmp_path, vary="exposure")
    assert found["changed_their_answer"]["share"] == 1.0
    first = [change["between"] for change in found["first_changes"]]
    assert all(between is not None for between in first)
    means = [step["mean_answer"] for step in found["steps"] if step["images"]]
    assert means == sorted(means)
    page = (tmp_path / "exposure.html").read_text()
    assert "100 % of the images get another answer" in page
    assert not re.search(r"(src|href)=.http|url\(.?http|@import|<script", page)


def test_the_same_model_does_not_follow_the_label_at_the_same_exposure(
    released, brightness_model, tmp_path
):
    found = stressed(released, brightness_model, tmp_path, "--hold", "exposure", vary="label")
    assert found["changed_their_answer"]["share"] <= 0.25
    assert found["agrees_with_the_label"] < 0.5


def stressed(released, model, folder, *more, vary):
    report, numbers = folder / f"{vary}.html", folder / f"{vary}.json"
    run("stress", released, "--model", model, "--vary", vary, "--report", report, "--json", numbers,
        "--images", 12, *more)  # fmt: skip
    return json.loads(numbers.read_text())


def test_a_teaching_set_keeps_answers_apart_from_cases(released, tmp_path):
    folder = tmp_path / "quiz"
    run("teach", released, "--vary", "label", "--hold", "exposure", "--images", 2, "--out", folder)
    cases = list(csv.DictReader((folder / "cases.csv").open()))
    answers = list(csv.DictReader((folder / "answers.csv").open()))
    assert len(cases) == len(answers) == 10
    assert set(cases[0]) == {"case", "file"}
    assert sorted(answer["answer"] for answer in answers) == sorted("01234" * 2)
    for case in cases:
        assert Image.open(folder / case["file"]).size == (SIDE, SIDE)
    quiz = (folder / "cases.js").read_text()
    told = json.loads(quiz.removeprefix("const QUIZ = ").rstrip(";\n"))
    assert [c["right"] for c in told["cases"]] == [int(a["answer"]) for a in answers]
    with pytest.raises(InvalidParameter, match="exists"):
        run("teach", released, "--vary", "label", "--images", 2, "--out", folder)


def test_a_model_for_other_labels_is_refused(released, tmp_path):
    model = model_of(tmp_path / "three.onnx", np.zeros((SIDE * SIDE, 3)), [0.0, 0.0, 0.0])
    with pytest.raises(InvalidParameter, match="3 numbers"):
        stressed(released, model, tmp_path, vary="exposure")
    assert not list(tmp_path.glob("*.html"))


def test_what_is_no_model_is_refused(tmp_path):
    path = tmp_path / "not.onnx"
    path.write_bytes(b"hello")
    with pytest.raises(InvalidParameter, match="no ONNX model"):
        load_classifier(path, kinds=5)
    four = model_of(tmp_path / "four.onnx", np.zeros((4 * 64, 5)), [0.0] * 5, channels=4, side=8)
    with pytest.raises(InvalidParameter, match="4 channels"):
        load_classifier(four, kinds=5)


@pytest.mark.parametrize("beside", ["weights.bin", "../model/weights.bin"])
def test_a_model_reads_no_other_file(tmp_path, monkeypatch, beside):
    folder = tmp_path / "model"
    folder.mkdir()
    path = model_of(folder / "outside.onnx", np.zeros((SIDE * SIDE, 5)), [0.0] * 5)
    onnx.save_model(
        onnx.load(path),
        path,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    model = onnx.load(path, load_external_data=False)
    for initializer in model.graph.initializer:
        for entry in initializer.external_data:
            entry.value = beside if entry.key == "location" else entry.value
    path.write_bytes(model.SerializeToString())
    monkeypatch.chdir(folder)  # where an engine that trusts the file would look
    with pytest.raises(InvalidParameter, match="inside the file"):
        load_classifier(path, kinds=5)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"no zip", "no readable .npz"), (None, "images and labels")],
)
def test_what_is_no_released_set_is_refused(tmp_path, content, said):
    path = tmp_path / "x.npz"
    if content is None:
        np.savez(path, something=np.zeros(3))
    else:
        path.write_bytes(content)
    with pytest.raises(InvalidParameter, match=said):
        read_released_set(path)
