"""Both ways to a clipped sum against a plain float64 loop over persons, for every kind of layer."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, grad
from torch.nn import functional

from training import captured_gradients, layer_gradients, layer_kinds
from training.captured_gradients import CapturedGradients
from training.gradient_choice import choose
from training.networks import ConditionalUnet
from training.person_gradients import Clip, Lines, VmapGradients, whole_gradient
from training.recorded_pass import NotCapturable

PLAIN = Clip(0.5, "plain")
AUTOMATIC = Clip(0.5, "automatic")


class Squares:
    """Mean square of whatever a network says: an objective for any network."""

    def examples(self, records):
        raise NotImplementedError

    def loss(self, network, examples):
        return network(*examples).flatten(1).square().mean(dim=1)


class Said:
    """What a network of one output says: the gradient of a linear one is its input."""

    def examples(self, records):
        raise NotImplementedError

    def loss(self, network, examples):
        return network(*examples).flatten(1)[:, 0]


class Mixed(nn.Module):
    """Every kind of layer once: embedding, grouped, dilated and strided convolutions, both norms."""

    def __init__(self):
        super().__init__()
        self.label = nn.Embedding(4, 8, padding_idx=3)
        self.enter = nn.Conv2d(2, 8, 3, padding=1)
        self.group_norm = nn.GroupNorm(4, 8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=2)
        self.strided = nn.Conv2d(8, 12, (3, 2), stride=(2, 1), padding=1, bias=False)
        self.one = nn.Conv2d(12, 6, 1)
        self.narrow = nn.Conv2d(6, 2, 3, padding="same")
        self.layer_norm = nn.LayerNorm(7)
        self.deep = nn.Linear(7, 5)
        self.last = nn.Linear(5, 3)

    def forward(self, images, labels):
        hidden = self.enter(images) + self.label(labels)[:, :, None, None]
        hidden = functional.silu(self.grouped(functional.silu(self.group_norm(hidden))))
        hidden = self.narrow(functional.silu(self.one(functional.silu(self.strided(hidden)))))
        return self.last(functional.silu(self.deep(self.layer_norm(hidden))).mean(dim=(1, 2)))


def _mixed(rows):
    torch.manual_seed(3)
    network = Mixed().double()
    images, labels = torch.randn(rows, 2, 6, 6).double(), torch.arange(rows) % 4
    return network, (images, labels)


def _unet(rows):
    torch.manual_seed(3)
    network = ConditionalUnet(height=12, width=10, channels=2, conditions=3, features=8).double()
    nn.init.normal_(network.leave.weight, std=0.3)
    return network, (torch.randn(rows, 2, 12, 10).double(), torch.randn(rows, 3).double())


def _lines(images_of_persons, draws, padding=0):
    person = np.repeat(np.arange(len(images_of_persons)), images_of_persons)
    weights = np.repeat(1.0 / (draws * np.array(images_of_persons)), images_of_persons)
    weights = np.append(weights, np.zeros(padding))
    number = np.append(person, np.arange(len(person), len(person) + padding))
    return Lines(
        weights=torch.from_numpy(np.repeat(weights, draws)),
        count=len(number),
        person=None if max(images_of_persons) == 1 else torch.from_numpy(number),
    )


def _naive(network, examples, images_of_persons, draws, clip):
    """Clip and sum one person after another, one row after another, by ordinary backward passes."""
    total, row = 0.0, 0
    for images in images_of_persons:
        own = 0.0
        for _ in range(images * draws):
            network.zero_grad()
            Squares().loss(network, tuple(e[row : row + 1] for e in examples)).sum().backward()
            grads = [p.grad if p.grad is not None else 0 * p for p in network.parameters()]
            own = own + torch.cat([g.flatten() for g in grads]) / (images * draws)
            row += 1
        total = total + own * clip.factors(own.norm())
    return total.detach()


CASES = {
    "one image each": ([1, 1, 1], 1),
    "one image each, three draws": ([1, 1, 1], 3),
    "several images": ([1, 2, 5, 1], 1),
    "several images and draws": ([2, 1, 3], 2),
    "fifty images": ([1, 50], 1),
}


def _treat_weights(memory, monkeypatch):
    """Make every weight's gradients kept, instantiated and dropped, or counted by Gram matrices."""
    monkeypatch.setitem(captured_gradients._KEPT_BYTES, "cpu", 1 << 29 if memory == "kept" else 0)
    cost = math.inf if memory == "ghost" else 0.0
    monkeypatch.setitem(captured_gradients._COST_OF_MEMORY, "cpu", cost)


@pytest.mark.parametrize("clip", [PLAIN, AUTOMATIC], ids=["plain", "automatic"])
@pytest.mark.parametrize("memory", ["kept", "counted", "ghost"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("make", [_mixed, _unet])
def test_captured_gradients_equal_a_naive_float64_loop(make, case, memory, clip, monkeypatch):
    persons, draws = CASES[case]
    _treat_weights(memory, monkeypatch)
    network, examples = make(sum(persons) * draws)
    expected = _naive(network, examples, persons, draws, clip)
    found = CapturedGradients(network, Squares()).clipped_sum(
        dict(network.named_parameters()), examples, _lines(persons, draws), clip=clip
    )
    # Gradients that are not held in memory are counted larger by a millionth, on purpose.
    tolerance = 1e-10 if memory == "kept" else 30 * layer_gradients.ROUNDING
    assert float((found - expected).norm()) <= tolerance * float(expected.norm())


@pytest.mark.parametrize("case", CASES)
def test_vmap_gradients_equal_a_naive_float64_loop(case):
    persons, draws = CASES[case]
    network, examples = _unet(sum(persons) * draws)
    expected = _naive(network, examples, persons, draws, PLAIN)
    found = VmapGradients(network, Squares()).clipped_sum(
        dict(network.named_parameters()), examples, _lines(persons, draws), clip=PLAIN
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("garbage", [0.0, math.inf, math.nan])
@pytest.mark.parametrize("way", [CapturedGradients, VmapGradients])
def test_padding_adds_nothing_whatever_it_holds(way, garbage):
    network, examples = _mixed(5)
    gradients, parameters = way(network, Squares()), dict(network.named_parameters())
    full = tuple(e[:3] for e in examples)
    expected = gradients.clipped_sum(parameters, full, _lines([1, 2], 1), clip=PLAIN)
    examples[0][3:] = garbage
    found = gradients.clipped_sum(parameters, examples, _lines([1, 2], 1, padding=2), clip=PLAIN)
    torch.testing.assert_close(found, expected)


def _uneven(count):
    """A few large values, then many that a running float32 sum of squares would not notice."""
    values = torch.full((1, count), 10.0)
    values[:, :64] = 3e4
    return values


@pytest.mark.parametrize("count", [60_000, 250_000, 1_000_000])
@pytest.mark.parametrize("kind", ["plain", "automatic"])
def test_a_clipped_gradient_stays_below_the_clip_however_its_values_are_ordered(kind, count):
    for values in (_uneven(count), _uneven(count).flip(1)):
        assert float(Clip(1.0, kind).sum(values).double().norm()) <= 1.0


@pytest.mark.parametrize("count", [60_000, 250_000, 1_000_000])
@pytest.mark.parametrize("memory", ["vmap", "kept", "counted", "ghost"])
def test_every_way_keeps_uneven_gradients_below_the_clip(memory, count, monkeypatch):
    _treat_weights(memory, monkeypatch)
    network = nn.Linear(count, 1, bias=False)
    way = (VmapGradients if memory == "vmap" else CapturedGradients)(network, Said())
    found = way.clipped_sum(
        dict(network.named_parameters()),
        (_uneven(count),),
        Lines(torch.ones(1), count=1),
        clip=Clip(1.0, "plain"),
    )
    assert 0.999 <= float(found.double().norm()) <= 1.0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("memory", ["vmap", "kept", "counted", "ghost"])
def test_sums_on_a_gpu_are_not_shortened_to_tf32(memory, monkeypatch):
    monkeypatch.setitem(captured_gradients._KEPT_BYTES, "cuda", 1 << 29 if memory == "kept" else 0)
    cost = math.inf if memory == "ghost" else 0.0
    monkeypatch.setitem(captured_gradients._COST_OF_MEMORY, "cuda", cost)
    torch.set_float32_matmul_precision("high")
    try:
        torch.manual_seed(0)
        network = nn.Conv2d(64, 1, 3, bias=False).cuda()
        way = (VmapGradients if memory == "vmap" else CapturedGradients)(network, Said())
        # One position: the gradient is the image itself, and three draws in a line cancel nothing.
        images = torch.rand(1, 64, 3, 3).repeat(3, 1, 1, 1).cuda()
        found = way.clipped_sum(
            dict(network.named_parameters()),
            (images,),
            Lines(torch.ones(3).cuda() / 3, count=1),
            clip=Clip(1.0, "plain"),
        )
    finally:
        torch.set_float32_matmul_precision("highest")
    expected = images[0].flatten().double() / images[0].double().norm()
    assert float((found - expected).norm()) <= 2e-4
    assert float(found.double().norm()) <= 1.0


@pytest.mark.parametrize("count", [0, 1, 511, 512, 513, 1025])
def test_norms_of_rows_are_those_of_float64(count):
    torch.manual_seed(0)
    values = torch.randn(3, 2, count)
    torch.testing.assert_close(
        layer_gradients.row_norms(values), values.double().norm(dim=-1), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("memory", ["kept", "counted", "ghost"])
@pytest.mark.parametrize("scale", [1e-20, 1e3, 1e12, 1e30, math.inf, math.nan])
def test_changing_one_person_changes_the_sum_by_at_most_twice_the_clip(scale, memory, monkeypatch):
    """Adding one changes it by at most the clip; a change is a removal and an addition."""
    _treat_weights(memory, monkeypatch)
    network, examples = _mixed(4)
    network, examples = network.float(), (examples[0].float(), examples[1])
    gradients, parameters = CapturedGradients(network, Squares()), dict(network.named_parameters())
    without = tuple(e[:3] for e in examples)
    lines = Lines(weights=torch.ones(4), count=4)
    rest = gradients.clipped_sum(
        parameters, without, Lines(weights=torch.ones(3), count=3), clip=PLAIN
    )
    for sign in (1.0, -1.0):
        changed = examples[0].clone()
        changed[3] = sign * scale * changed[3]
        found = gradients.clipped_sum(parameters, (changed, examples[1]), lines, clip=PLAIN)
        assert torch.isfinite(found).all()
        assert float((found.double() - rest.double()).norm()) <= 0.5 * (1 + 1e-6)


def test_a_gradient_that_all_but_cancels_over_positions_is_still_clipped():
    """Ghost norms are differences of large numbers; taken too small they would break the clip."""
    layer = nn.Linear(64, 64, bias=False)
    generator = torch.Generator().manual_seed(0)
    inputs = 1e4 * torch.randn(1, 1, 64, generator=generator).repeat(1, 2, 1)
    outputs = torch.randn(1, 1, 64, generator=generator).repeat(1, 2, 1)
    outputs[:, 1] *= -(1 + 1e-7)
    kind = layer_kinds.kind_of(layer)
    use = layer_gradients.LayerUse(inputs=inputs, output_gradients=outputs, lines=1)
    factor = AUTOMATIC.factors(kind.ghost_squares(use).sqrt()).float()
    assert float(kind.weighted(use, factor).norm()) <= AUTOMATIC.max_grad_norm


def test_a_whole_gradient_in_pieces_is_the_persons_gradient():
    network, examples = _mixed(6)
    weights = torch.full((6,), 1 / 6).double()
    pieces = sum(
        whole_gradient(network, Squares(), tuple(e[s] for e in examples), weights[s])
        for s in (slice(0, 4), slice(4, 6))
    )
    whole = Clip(1e9, "plain")
    torch.testing.assert_close(whole.sum(pieces[None]), _naive(network, examples, [6], 1, whole))


class Twice(nn.Module):
    """Runs one layer two times."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, values):
        return self.layer(functional.silu(self.layer(values)))


class Penalty(Squares):
    """Differentiates the network inside its loss, and does not say so."""

    def loss(self, network, examples):
        (values,) = examples
        slope = grad(lambda x: network(x).sum())(values)
        return slope.square().sum(dim=1) + network(values).square().sum(dim=1)


class Overwriting(nn.Module):
    """Overwrites a layer's output in place."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, values):
        return self.last(functional.relu_(self.first(values)) * 2.0)


def _chosen(network, objective=None, way="auto"):
    like = (torch.randn(7, 4),)
    return choose(network, objective or Squares(), way=way, like=like, draws=1).name


def test_the_fast_way_is_taken_where_it_is_right():
    assert _chosen(nn.Sequential(nn.Linear(4, 4), nn.SiLU(), nn.Linear(4, 2))) == "captured"


@pytest.mark.parametrize(
    ("network", "objective"),
    [
        (Twice(), Squares()),
        (nn.Sequential(nn.Linear(4, 4), nn.PReLU(), nn.Linear(4, 2)), Squares()),
        (nn.Sequential(nn.Linear(4, 4), nn.SiLU(), nn.Linear(4, 2)), Penalty()),
    ],
    ids=["a layer runs twice", "a layer of unknown kind", "a loss that differentiates"],
)
def test_the_slow_way_is_taken_where_the_fast_one_would_be_wrong(network, objective):
    assert _chosen(network, objective) == "vmap"


def test_a_network_that_overwrites_outputs_never_gets_wrong_gradients():
    torch.manual_seed(0)
    network, values = Overwriting(), torch.randn(3, 4)
    gradients = choose(network, Squares(), way="auto", like=(values,), draws=1)
    lines = Lines(weights=torch.ones(3), count=3)
    parameters = dict(network.named_parameters())
    found = gradients.clipped_sum(parameters, (values,), lines, clip=PLAIN)
    torch.testing.assert_close(found, _naive(network, (values,), [1, 1, 1], 1, PLAIN))


def test_shared_weights_are_not_captured():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    network[1].weight = network[0].weight
    with pytest.raises(NotCapturable, match="share weights"):
        CapturedGradients(network, Squares())
    assert _chosen(network) == "vmap"


def test_a_way_can_be_asked_for():
    network = nn.Sequential(nn.Linear(4, 4), nn.SiLU(), nn.Linear(4, 2))
    assert _chosen(network, way="vmap") == "vmap"
    with pytest.raises(NotCapturable, match="PReLU"):
        _chosen(nn.Sequential(nn.Linear(4, 4), nn.PReLU()), way="captured")


def test_frozen_parameters_are_left_out():
    network, examples = _mixed(3)
    network.enter.requires_grad_(False)
    network.last.bias.requires_grad_(False)
    parameters, lines = dict(network.named_parameters()), _lines([1, 1, 1], 1)
    sums = [
        way(network, Squares()).clipped_sum(parameters, examples, lines, clip=PLAIN)
        for way in (CapturedGradients, VmapGradients)
    ]
    assert len(sums[0]) == sum(p.numel() for p in network.parameters() if p.requires_grad)
    torch.testing.assert_close(*sums)


def test_lower_precision_of_the_forward_pass_keeps_sums_in_float32_and_the_clip():
    torch.manual_seed(0)
    network = ConditionalUnet(height=12, width=12, channels=2, conditions=3, features=16)
    nn.init.normal_(network.leave.weight, std=0.3)
    examples = (torch.randn(2, 2, 12, 12), torch.randn(2, 3))
    parameters, lines = dict(network.named_parameters()), Lines(torch.ones(2), count=2)
    exact, rounded = (
        CapturedGradients(network, Squares(), precision=precision).clipped_sum(
            parameters, examples, lines, clip=PLAIN
        )
        for precision in ("float32", "bfloat16")
    )
    assert rounded.dtype == torch.float32
    assert float((rounded - exact).norm()) <= 0.05 * float(exact.norm())


def test_networks_are_left_as_they_were():
    network, examples = _mixed(2)
    before = functional_call(network, dict(network.named_parameters()), examples)
    lines = Lines(torch.ones(2).double(), count=2)
    parameters = dict(network.named_parameters())
    CapturedGradients(network, Squares()).clipped_sum(parameters, examples, lines, clip=PLAIN)
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    assert not any(m._forward_hooks for m in network.modules())
    torch.testing.assert_close(network(*examples), before)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own, at its first import
def test_a_compiled_pass_gives_the_same_sums_and_is_compiled_once():
    network, examples = (
        nn.Sequential(nn.Linear(4, 4), nn.SiLU(), nn.Linear(4, 2)).double(),
        (torch.randn(4, 4).double(),),
    )
    parameters, lines = dict(network.named_parameters()), _lines([1, 1, 2], 1)
    compiled = CapturedGradients(network, Squares(), compiled=True)
    torch._dynamo.utils.counters.clear()
    expected = _naive(network, examples, [1, 1, 2], 1, PLAIN)
    for _ in range(3):
        found = compiled.clipped_sum(parameters, examples, lines, clip=PLAIN)
        assert float((found - expected).norm()) <= 1e-4 * float(expected.norm())
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_a_network_whose_gradients_are_all_counted_keeps_none():
    network, values = nn.Linear(4, 4, bias=False), torch.randn(3, 4)
    found = CapturedGradients(network, Squares()).clipped_sum(
        dict(network.named_parameters()), (values,), Lines(torch.ones(3), count=3), clip=PLAIN
    )
    torch.testing.assert_close(found, _naive(network, (values,), [1, 1, 1], 1, PLAIN))
