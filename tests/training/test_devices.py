"""One place chooses the device, and what it cannot have it refuses."""

import pytest
import torch

from privacy.errors import InvalidParameter
from training import artefact, devices


def test_the_device_is_a_gpu_where_there_is_one_and_else_the_processor(monkeypatch):
    monkeypatch.delenv(devices.VARIABLE, raising=False)
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    assert devices.compute_device().type == kind
    assert artefact.device() == kind


def test_the_variable_overrides_the_choice(monkeypatch):
    monkeypatch.setenv(devices.VARIABLE, "cpu")
    assert devices.compute_device() == torch.device("cpu")


@pytest.mark.parametrize("name", ["abacus", "meta"])
def test_a_device_that_is_not_here_is_refused(name, monkeypatch):
    monkeypatch.setenv(devices.VARIABLE, name)
    with pytest.raises(InvalidParameter, match="Use cpu"):
        devices.compute_device()


def _precision():
    backends = torch.backends
    return (
        backends.cuda.matmul.allow_tf32,
        backends.cuda.matmul.fp32_precision,
        backends.cudnn.allow_tf32,
        backends.cudnn.conv.fp32_precision,
        backends.cudnn.rnn.fp32_precision,
        backends.cudnn.enabled,
        backends.cudnn.benchmark,
        backends.cudnn.deterministic,
    )


@pytest.fixture(params=["highest", "high"])
def precision(request):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(request.param)
    yield _precision()
    torch.set_float32_matmul_precision(before)


def test_full_float32_switches_tf32_off_on_a_gpu_and_back_again(precision):
    # The settings are there without a GPU as well; only what they do is not.
    inside = []

    def fail():
        with devices.full_float32(torch.device("cuda")):
            inside.append(_precision())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert inside == [(False, "ieee", False, "ieee", "ieee", *precision[5:])]
    assert _precision() == precision
    assert torch.get_float32_matmul_precision() in {"highest", "high"}  # refused if names disagree


def test_full_float32_switches_nothing_on_a_processor(precision):
    with devices.full_float32(torch.device("cpu")):
        assert _precision() == precision
