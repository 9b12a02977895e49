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
