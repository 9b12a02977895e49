"""Gradient sizes agree with plain backward passes, and generators hand them over where they have any."""

import numpy as np
import pytest
import torch
from torch import nn

from training import diffusion as equations
from training import generators
from training.gradient_sizes import GradientSizes
from training.networks import ConditionalUnet
from training.recorded_pass import NotCapturable

DRAWS = 2


def _network():
    torch.manual_seed(0)
    network = ConditionalUnet(height=16, width=16, channels=2, conditions=5, features=8)
    nn.init.normal_(network.leave.weight, std=0.1)
    return network


def test_norms_of_every_layer_equal_those_of_a_backward_pass_per_record():
    network, generator = _network(), torch.Generator().manual_seed(1)
    rows = 3 * DRAWS
    examples = (
        torch.randn(rows, 2, 16, 16, generator=generator),
        torch.randn(rows, 5, generator=generator),
        torch.randn(rows, 16, 16, generator=generator),
    )
    found = GradientSizes(network, equations.loss)(examples, draws=DRAWS)
    layers = [m for m in network.modules() if list(m.parameters(recurse=False))]
    assert found.shape == (3, 1 + len(layers))
    for record in range(3):
        own = tuple(part[record * DRAWS : (record + 1) * DRAWS] for part in examples)
        network.zero_grad()
        equations.loss(network, own).mean().backward()
        squares = [
            sum(float(p.grad.double().square().sum()) for p in m.parameters(recurse=False))
            for m in layers
        ]
        assert found[record, 0] == pytest.approx(np.log(sum(squares)) / 2, abs=1e-4)
        assert found[record, 1:] == pytest.approx(np.log(squares) / 2, abs=1e-3)


def test_a_network_of_unknown_layers_is_refused():
    with pytest.raises(NotCapturable):
        GradientSizes(nn.Sequential(nn.Bilinear(2, 2, 2)), equations.loss)


class Plain:
    """A fitted generator without gradients."""

    def score(self, images, labels, *, seed):
        return {}


def test_a_generator_without_gradients_hands_over_no_feature():
    assert generators.gradient_features(
        Plain(), np.zeros((4, 2, 2)), np.zeros(4), seed=0
    ).shape == (
        4,
        0,
    )
