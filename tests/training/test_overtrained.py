"""A diffusion model that learnt 500 images by heart fails the audit; the same net at epsilon 1 does not.

Real training on pictures that are made here: a few soft strokes each. The network is wide and has no
convolutions, because such a one learns by heart in a minute on one core. Everything else is what ships: the
Gaussian, the loss, the sampler's equations, DP-SGD, the attacks and the battery.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from privacy import planning
from privacy.audits import run_battery
from privacy.evidence import Arm, Evidence
from privacy.manifests import DatasetSchema
from privacy.mechanisms import PrivacyTarget, UnitOfPrivacy
from privacy.policy import load_policy
from privacy.report import GateStatus, Verdict
from training import diffusion as equations
from training import dp_sgd, generators
from training.checkpoints import Progress
from training.diffusion_attacks import Questions
from training.records import PersonIndex, TrainingRecords, decode, encode
from training.refinement import Denoising
from training.run import LocalRun
from training.spectrum import to_coefficients, to_images

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SIDE, MEMBERS, OTHERS, SAMPLES = 16, 500, 900, 1000
WIDTH, STEPS = 1024, 5000
TARGET = PrivacyTarget(epsilon=1.0, delta=1e-5)
LEVELS = equations.NoiseLevels(largest=10.0)
SCHEMA = DatasetSchema(
    declared_count=MEMBERS,
    height=SIDE,
    width=SIDE,
    bit_depth=8,
    label="direction",
    labels=("across", "down"),
)
MODULE = generators.load("diffusion")
CONFIG = MODULE.Config(
    steps=40, expected_batch_size=100, features=16, warm_up_steps=2, covariance_coefficients=60
)


def strokes(count, rng):
    """Return pictures (count, side, side) of three soft strokes, mostly along their label."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    labels = rng.integers(0, 2, count)
    images = np.zeros((count, SIDE, SIDE))
    for _ in range(3):
        y, x = rng.uniform(3, SIDE - 4, (2, count, 1, 1))
        angle = rng.normal(0, 0.5, (count, 1, 1)) + labels[:, None, None] * np.pi / 2
        along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
        across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
        outside = np.maximum(np.abs(along) - rng.uniform(2, 5, (count, 1, 1)), 0)
        images = np.maximum(images, 1 / (1 + np.exp(2 * (outside + np.abs(across) - 1))))
    return (255 * images).astype(np.uint8), labels.astype(np.int16)


class Dense(nn.Module):
    """Two wide layers; shapes as in `ConditionalUnet`. Adds nothing at its first weights."""

    def __init__(self):
        super().__init__()
        pixels, conditions = SIDE**2, equations.condition_count(len(SCHEMA.labels))
        self.enter = nn.Linear(2 * pixels + conditions, WIDTH)
        self.middle = nn.Linear(WIDTH, WIDTH)
        self.leave = nn.Linear(WIDTH, pixels)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, images, conditions):
        hidden = nn.functional.silu(self.enter(torch.cat([images.flatten(1), conditions], 1)))
        hidden = nn.functional.silu(self.middle(hidden))
        return self.leave(hidden).view(len(images), 1, SIDE, SIDE)


def records_of(images, labels):
    return TrainingRecords(images, labels, np.arange(len(images), dtype=np.int32))


def fitted_with(mechanisms, records):
    """Return the Gaussian learnt by the generator itself, with the wide network in its place."""
    fitted = MODULE.fit(records, CONFIG, schema=SCHEMA, run=LocalRun(mechanisms), seed=0)
    torch.manual_seed(0)
    return replace(fitted, network=Dense())


def overtrain(fitted, records, *, steps):
    """Train on the records again and again without noise or clip."""
    network, rng = fitted.network, np.random.default_rng(0)
    images = torch.from_numpy(encode(records.images, SCHEMA) / np.float32(fitted.gaussian.scale))
    labels = torch.from_numpy(records.labels.astype(np.int64))
    generator = torch.Generator().manual_seed(0)
    adam = torch.optim.Adam(network.parameters(), lr=1e-3)
    for step in range(steps):
        chosen = torch.from_numpy(rng.integers(0, len(images), 128))
        drawn = equations.examples(
            images[chosen],
            labels[chosen],
            gaussian=fitted.gaussian,
            sigma=LEVELS.draw(128, generator=generator),
            noise=torch.randn((128, SIDE, SIDE), generator=generator),
        )
        adam.param_groups[0]["lr"] = 1e-3 * (1 - step / steps) + 1e-5
        adam.zero_grad()
        equations.loss(network, drawn).mean().backward()
        adam.step()


def train_privately(fitted, records, mechanisms):
    """Train the same network with the DP-SGD that was planned."""
    run = LocalRun(mechanisms[3:4])
    dp_sgd.train(
        fitted.network,
        Denoising(records, gaussian=fitted.gaussian, schema=SCHEMA),
        people=PersonIndex.of(records.persons),
        index=0,
        settings=dp_sgd.DpSgdSettings(expected_batch_size=CONFIG.expected_batch_size),
        run=run,
        kept=Progress(run),
    )


def drawn_from(fitted, labels):
    rng, generator = np.random.default_rng(3), torch.Generator().manual_seed(3)
    start = to_images(fitted.start.draw(labels, rng), SIDE, SIDE) / fitted.gaussian.scale
    images = equations.sample(
        fitted.network,
        torch.from_numpy(start.astype(np.float32)),
        torch.from_numpy(labels),
        gaussian=fitted.gaussian,
        schedule=LEVELS.schedule(30),
        generator=generator,
    )
    return decode(images.numpy() * np.float32(fitted.gaussian.scale), SCHEMA)


def audited(fitted, images, labels, mechanisms):
    """Return the report; every image is a person, the first ones members by the toss of a coin."""
    rng = np.random.default_rng(1)
    arms = np.full(MEMBERS + OTHERS, Arm.AUDIT_IN, dtype=np.int8)
    arms[MEMBERS : 2 * MEMBERS] = Arm.AUDIT_OUT
    arms[2 * MEMBERS :] = rng.choice([Arm.REFERENCE_A, Arm.REFERENCE_B], OTHERS - MEMBERS)
    values = encode(images, SCHEMA)
    asked = Questions.of(fitted.network, fitted.gaussian, seed=4)
    scaled = torch.from_numpy(values / np.float32(fitted.gaussian.scale))
    index = torch.from_numpy(labels.astype(np.int64))
    density = fitted.model.log_density(to_coefficients(values), labels.astype(np.int64))
    sample_labels = np.arange(SAMPLES) % 2
    evidence = Evidence(
        modality="image",
        unit=UnitOfPrivacy.RECORD,
        records=images,
        labels=labels,
        persons=np.arange(len(images)),
        arms=arms,
        folds=rng.integers(1, 3, len(images)),
        excluded=np.zeros(len(images), bool),
        samples=drawn_from(fitted, sample_labels),
        sample_labels=sample_labels,
        target=TARGET,
        mechanisms=mechanisms,
        record_scores=asked.scores(scaled, index) | {"log_density": density},
        gradient_features=asked.gradients(scaled, index),
    )
    policy = load_policy()
    grid = policy.grid.model_copy(update={"permutations": 400, "quick_repeats": 2})
    return run_battery(
        evidence,
        policy=policy.model_copy(update={"grid": grid}),
        tier="registered",
        attempt=1,
        rng=rng,
    )


@pytest.fixture(scope="module")
def pictures():
    return strokes(MEMBERS + OTHERS, np.random.default_rng(0))


@pytest.fixture(scope="module")
def planned():
    return planning.plan_mechanisms(
        MODULE.STAGES,
        config=CONFIG.model_dump(),
        target=TARGET,
        public_train_count=MEMBERS,
    )


def failing(report):
    return {gate.audit for gate in report.gates if gate.status is GateStatus.FAIL}


def test_a_model_that_learnt_its_images_by_heart_fails_by_copies_and_losses(pictures, planned):
    images, labels = pictures
    records = records_of(images[:MEMBERS], labels[:MEMBERS])
    # What it claims is what it would have been trained with: the audit refutes the claim as well.
    loud = tuple(m.model_copy(update={"noise_multiplier": 1e-3}) for m in planned)
    fitted = fitted_with(loud, records)
    overtrain(fitted, records, steps=STEPS)
    report = audited(fitted, images, labels, planned)
    assert report.verdict is Verdict.FAIL
    assert {"near_copies", "loss_membership", "gradient_membership", "claim"} <= failing(report)


def test_the_same_net_at_epsilon_1_does_not_fail(pictures, planned):
    images, labels = pictures
    records = records_of(images[:MEMBERS], labels[:MEMBERS])
    fitted = fitted_with(planned, records)
    train_privately(fitted, records, planned)
    report = audited(fitted, images, labels, planned)
    assert report.verdict in {Verdict.PASS_PROVEN, Verdict.PASS_EMPIRICAL, Verdict.INCONCLUSIVE}
    assert not failing(report)
