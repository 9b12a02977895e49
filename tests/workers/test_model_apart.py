"""A stranger's classifier runs in a process of its own: as it would here, or not for long."""

import os

import numpy as np
import pytest

from privacy.errors import InvalidParameter
from tests.onnx_models import KINDS, SIDE, counting_for_ever, linear
from workers.editing import apart
from workers.editing.apart import ModelApart
from workers.editing.classifier import load_classifier


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (70, SIDE, SIDE), dtype=np.uint8)


def test_the_answers_are_those_of_this_process(tmp_path, images):
    linear(tmp_path, np.random.default_rng(1))
    here = load_classifier(tmp_path / "model.onnx", kinds=KINDS, white=255.0)
    there = ModelApart(tmp_path, kinds=KINDS, white=255.0)
    assert np.array_equal(there.probabilities(images), here.probabilities(images))


def test_a_refusal_comes_back_as_it_was_said(tmp_path, images):
    (tmp_path / "model.onnx").write_bytes(b"hello")
    with pytest.raises(InvalidParameter, match="no ONNX model"):
        ModelApart(tmp_path, kinds=KINDS, white=1.0).probabilities(images)


def test_a_model_that_goes_on_for_ever_is_ended(tmp_path, images):
    counting_for_ever(tmp_path)
    with pytest.raises(InvalidParameter, match="more than 2 seconds"):
        ModelApart(tmp_path, kinds=KINDS, white=1.0, most_seconds=2).probabilities(images)


def test_the_process_is_told_no_secret_of_this_one(tmp_path, images, monkeypatch):
    seen = []

    def watched(command, **options):
        seen.append(options["env"])
        return real(command, **options)

    real = apart.subprocess.run
    monkeypatch.setenv("S3_SECRET_KEY", "hush")
    monkeypatch.setattr(apart.subprocess, "run", watched)
    linear(tmp_path, np.random.default_rng(1))
    ModelApart(tmp_path, kinds=KINDS, white=1.0).probabilities(images)
    assert len(seen) == 1
    assert os.environ["S3_SECRET_KEY"] == "hush"
    assert set(seen[0]) == {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONPATH"}
