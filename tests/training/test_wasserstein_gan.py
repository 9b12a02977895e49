"""The Wasserstein GAN: whose gradient is clipped, what the generator sees, what a resume keeps."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from privacy import planning
from privacy.manifests import DatasetSchema
from privacy.mechanisms import PoissonSubsampledGaussianMechanism, PrivacyTarget
from training import dp_sgd, wasserstein
from training.checkpoints import Progress
from training.critic_game import Distance, Fakes
from training.generator_turns import GeneratorTurns, TurnSettings
from training.generators import wasserstein_gan
from training.records import TrainingRecords, encode
from training.run import LocalRun

PIXELS = 16
FIRST_MOMENT_SHARE = 0.1  # Adam's first moment after one step is a tenth of the gradient
EXPECTED = 8


def _schema():
    return DatasetSchema(
        declared_count=100,
        height=PIXELS,
        width=PIXELS,
        bit_depth=8,
        label="grade",
        labels=("low", "high"),
    )


def _records(counts, *, seed=0):
    """Black and white stripes, so many images a person: nothing that a Gaussian would draw."""
    rng = np.random.default_rng(seed)
    total = sum(counts)
    stripes = (np.arange(PIXELS) // 2 % 2)[None, None] ^ rng.integers(2, size=(total, 1, 1))
    images = np.broadcast_to(stripes * 255, (total, PIXELS, PIXELS))
    return TrainingRecords(
        images=images.astype(np.uint8),
        labels=rng.integers(2, size=total).astype(np.int16),
        persons=np.repeat(np.arange(len(counts)), counts).astype(np.int32),
    )


def _config(**changes):
    small = {
        "steps": 6,
        "expected_batch_size": EXPECTED,
        "features": 16,
        "critic_features": 4,
        "warm_up_steps": 2,
        "critic_steps": 1,
        "generator_moves": 1,
        "covariance_coefficients": 20,
    }
    return wasserstein_gan.Config(**small | changes)


def _mechanisms(config):
    return planning.plan_mechanisms(
        wasserstein_gan.STAGES,
        config=config.model_dump(),
        target=PrivacyTarget(epsilon=8.0, delta=1e-5),
        public_train_count=100,
    )


def _fit(config=None, *, records=None, run=None, seed=3):
    config = config or _config()
    run = run or LocalRun(_mechanisms(config))
    records = _records([2] * 60) if records is None else records
    return wasserstein_gan.fit(records, config, schema=_schema(), run=run, seed=seed), run


@cache
def _state():
    return _fit()[0].state()


def _fitted():
    """Return a fresh copy of one generator that was fitted."""
    return wasserstein_gan.from_state(_state(), config=_config(), schema=_schema())


class Recorded(Distance):
    """Remembers what the critic was last shown."""

    def examples(self, records):
        self.last = super().examples(records)
        return self.last


def _one_step(records, *, penalty_weight=1.0, physical_batch=64):
    """Return the clipped sum of one critic step on everybody, what it saw, and the critic."""
    fitted = _fitted()
    before = {k: v.clone() for k, v in fitted.critic.state_dict().items()}
    objective = Recorded(records, fitted.corrector, penalty_weight=penalty_weight)
    run = LocalRun(
        [
            PoissonSubsampledGaussianMechanism(
                stage="dp_sgd", noise_multiplier=1e-7, sampling_rate=1.0, steps=1
            )
        ]
    )
    dp_sgd.train(
        fitted.critic,
        objective,
        people=records.by_person(),
        index=0,
        settings=dp_sgd.DpSgdSettings(
            expected_batch_size=EXPECTED,
            images_per_person=99,
            physical_batch=physical_batch,
            gradients="vmap",
        ),
        run=run,
        kept=Progress(run),
    )
    first_moment = torch.from_numpy(np.array(run.load_checkpoint()["dp_sgd_0/first_moment"]))
    fitted.critic.load_state_dict(before)
    return first_moment.flatten() / FIRST_MOMENT_SHARE * EXPECTED, objective.last, fitted.critic


@pytest.mark.parametrize(("count", "physical_batch"), [(1, 64), (2, 64), (50, 64), (50, 16)])
def test_a_person_moves_the_sum_by_at_most_the_clip_however_many_images_they_have(
    count, physical_batch
):
    gradient, _, _ = _one_step(_records([count]), physical_batch=physical_batch)
    assert 0.5 < float(gradient.norm()) <= 1.0 + 1e-4


def _written_out(critic, examples, *, penalty_weight):
    """The person's loss again, with ordinary double backward instead of `torch.func`."""
    real, fake, middle, labels = examples
    middle = middle.clone().requires_grad_(True)
    (inner,) = torch.autograd.grad(critic(middle, labels).sum(), middle, create_graph=True)
    penalty = (inner.square().sum(dim=(1, 2)).sqrt() * PIXELS - 1).square()
    of_real, of_fake = critic(real, labels), critic(fake, labels)
    level = (of_real + of_fake).square()
    loss = of_fake - of_real + penalty_weight * penalty + wasserstein._LEVEL_WEIGHT * level
    gradients = torch.autograd.grad(loss.mean(), list(critic.parameters()))
    return torch.cat([gradient.flatten() for gradient in gradients])


def test_the_penalty_is_inside_the_one_gradient_that_is_clipped():
    gradient, examples, critic = _one_step(_records([5]), penalty_weight=10.0)
    with_penalty = _written_out(critic, examples, penalty_weight=10.0)
    without = _written_out(critic, examples, penalty_weight=0.0)
    assert float(torch.cosine_similarity(gradient, with_penalty, dim=0)) > 0.9999
    assert float(torch.cosine_similarity(gradient, without, dim=0)) < 0.99


def test_a_row_of_the_loss_depends_on_that_row_alone():
    fitted = _fitted()
    labels = torch.eye(2)[torch.tensor([0, 1, 0])]
    real, fake = torch.randn(2, 3, PIXELS, PIXELS)
    middle = wasserstein.between(real, fake, torch.rand(3))
    whole = wasserstein.critic_loss(fitted.critic, (real, fake, middle, labels), penalty_weight=2)
    alone = wasserstein.critic_loss(
        fitted.critic, (real[:1], fake[:1], middle[:1], labels[:1]), penalty_weight=2
    )
    torch.testing.assert_close(whole[:1], alone)


def test_slope_is_that_of_a_linear_score_over_root_mean_square_distance():
    direction = torch.full((4, 5), 1.0 / 20)

    def mean_pixel(images, labels):
        del labels
        return (images * direction).sum(dim=(1, 2))

    slopes = wasserstein.slope(mean_pixel, torch.randn(3, 4, 5), torch.zeros(3, 1))
    torch.testing.assert_close(slopes, torch.ones(3))


def test_points_between_run_from_the_synthetic_to_the_real_image():
    real, fake = torch.ones(3, 2, 2), torch.zeros(3, 2, 2)
    middle = wasserstein.between(real, fake, torch.tensor([0.0, 0.25, 1.0]))
    torch.testing.assert_close(middle[:, 0, 0], torch.tensor([0.0, 0.25, 1.0]))


class CountedImages(np.ndarray):
    """Images that count how often they are read."""

    reads = 0

    def __getitem__(self, key):
        CountedImages.reads += 1
        return super().__getitem__(key)


def test_neither_the_generator_nor_the_warm_up_reads_a_record(monkeypatch):
    records = _records([2] * 60)
    records = TrainingRecords(
        images=records.images.view(CountedImages), labels=records.labels, persons=records.persons
    )
    CountedImages.reads, moves, warmed = 0, [], []
    original = GeneratorTurns.move

    def watched(self, critic, *, rate=1.0):
        before = CountedImages.reads
        accuracy = original(self, critic, rate=rate)
        moves.append(CountedImages.reads - before)
        return accuracy

    monkeypatch.setattr(GeneratorTurns, "move", watched)

    class Watched(LocalRun):
        def progress(self, stage, step, total, *, public_metrics=None):
            super().progress(stage, step, total, public_metrics=public_metrics)
            if stage in ("warm-up", "covariance"):
                warmed.append((stage, step, CountedImages.reads))

    _fit(records=records, run=Watched(_mechanisms(_config())))
    assert len(moves) == 2 + 6  # warm-up, then every critic step
    assert set(moves) == {0}
    released = [reads for stage, step, reads in warmed if (stage, step) == ("covariance", 3)]
    assert {reads for stage, _, reads in warmed if stage == "warm-up"} == set(released)
    assert CountedImages.reads > released[0] > 0  # the critic did read


def test_a_move_leaves_no_gradient_in_the_critic():
    fitted = _fitted()
    for parameter in fitted.critic.parameters():
        parameter.grad = None
    _turns(fitted).move(fitted.critic)
    assert all(parameter.grad is None for parameter in fitted.critic.parameters())


def _turns(fitted, **changes):
    settings = {
        "critic_steps": 2,
        "most_critic_steps": 7,
        "accuracy_floor": 0.6,
        "most_moves": 1,
        "learning_rate": 1e-3,
        "ema_decay": 0.5,
        "batch": 8,
    }
    return GeneratorTurns(
        fitted.network,
        fakes=Fakes(fitted.corrector),
        settings=TurnSettings(**settings | changes),
    )


class Constant(torch.nn.Module):
    """A critic that gives every image the same score."""

    def __init__(self, score):
        super().__init__()
        self.score = score

    def forward(self, images, labels):
        del labels
        return 0.0 * images.sum(dim=(1, 2)) + self.score


@pytest.mark.parametrize(("score", "steps"), [(1.0, 7), (-1.0, 2)])
def test_a_critic_that_is_fooled_gets_more_steps_per_turn_up_to_a_limit(score, steps):
    fitted = _fitted()
    turns = _turns(fitted)
    for _ in range(60):
        turns.after_critic_step(Constant(score), share_done=0.0)
    assert turns.critic_steps == steps
    assert turns.taken == 30 if steps == 2 else turns.taken < 20


@pytest.mark.parametrize(("score", "moves"), [(1.0, 1), (-1.0, 5)])
def test_a_turn_is_several_moves_only_while_the_critic_knows_the_images(score, moves):
    fitted = _fitted()
    turns = _turns(fitted, critic_steps=1, most_moves=5)
    turns.after_critic_step(Constant(score), share_done=0.0)
    assert turns.taken == moves


class Interrupted(LocalRun):
    """Stops when the second block of DP-SGD has been charged."""

    blocks = 0

    def charge(self, index, steps):
        super().charge(index, steps)
        if index == len(self.mechanisms) - 1:
            self.blocks += 1
            if self.blocks == 2:
                raise KeyboardInterrupt


def test_a_resume_goes_on_with_the_generator_that_was_kept():
    config = _config()
    run = Interrupted(_mechanisms(config))
    with pytest.raises(KeyboardInterrupt):
        _fit(config, run=run)
    assert run.charges[-1] == config.steps  # so the resume has no step left to take
    saved = run.load_checkpoint()
    fitted, _ = _fit(config, run=run, seed=99)
    for number, parameter in enumerate(fitted.network.parameters()):
        np.testing.assert_array_equal(
            parameter.detach().numpy(), saved[f"generator/average/{number}"]
        )
    assert int(saved["generator/taken"]) == int(saved["dp_sgd_3/taken"]) == 4


def test_a_generator_in_training_comes_back_whole_and_its_checkpoint_holds_no_random_stream():
    fitted = _fitted()
    turns = _turns(fitted, critic_steps=1)
    for _ in range(3):
        turns.after_critic_step(fitted.critic, share_done=0.0)
    state = turns.state()
    kinds = {name.split("/")[0] for name in state}
    scalars = {"taken", "critic_steps", "waited", "accuracy"}
    assert kinds == scalars | {"weight", "average", "first_moment", "second_moment"}
    other, _ = wasserstein_gan._networks(_config(), _schema(), seed=8)
    again = _turns(replace(fitted, network=other))
    again.restore(state)
    for name, value in again.state().items():
        np.testing.assert_array_equal(value, state[name])


def test_training_a_critic_raises_the_scores_of_what_it_took_for_members():
    fitted = _fitted()
    bright = np.full((8, PIXELS, PIXELS), 230, dtype=np.uint8)
    dark = np.full((8, PIXELS, PIXELS), 25, dtype=np.uint8)
    labels = np.arange(8) % 2
    hot = fitted.corrector.hot(labels)
    real, fake = (
        fitted.corrector.scaled(encode(images, _schema()), labels) for images in (bright, dark)
    )
    adam = torch.optim.Adam(fitted.critic.parameters(), lr=1e-2)
    for _ in range(20):
        middle = wasserstein.between(real, fake, torch.rand(8))
        loss = wasserstein.critic_loss(fitted.critic, (real, fake, middle, hot), penalty_weight=1)
        adam.zero_grad()
        loss.mean().backward()
        adam.step()
    members = fitted.score(bright, labels, seed=0)["critic"]
    others = fitted.score(dark, labels, seed=0)["critic"]
    assert members.min() > others.max()
