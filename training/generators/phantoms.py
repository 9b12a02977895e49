"""Phantoms: a simulator of knee radiographs whose parameters evolve towards what persons vote for.

**Idea.** Private evolution over a simulator. Candidates are parameters of procedural knees (joint
space, osteophytes, sclerosis, alignment, exposure, ...), some for each label. In each of four
rounds every person votes for the candidates nearest to their images; the noised histogram decides
which candidates live, and their parameters are varied for the next round. No network is trained and
no gradient taken. Synthetic images are fresh renderings of varied survivors: every line in them was
drawn by the program, none was copied from a record.

**When to use.** Frontal knee radiographs with severity grades and few persons. Labels are read as
grades from the mildest to the most severe, in the declared order. Pictures are sharp; their labels are
weaker. On phantoms of another prior, a linear classifier learnt more from them than from the prior
alone, about as much as from *statistics* at epsilon 1 and no more at epsilon 5. Other sets run too,
and it is pointless there: whatever the records show, the images show knees.

**Sensitivity.** An image's vote is a vector of L2 norm 1 over the candidates of its label. A
person's votes are averaged over their images and clipped to norm 1 as a whole, so adding or removing
a person changes a histogram by at most 1, however many images and labels the person has. Each round
is one Gaussian release of that histogram; candidates are made from the public prior and from
earlier noised histograms only, and images are compared in a fixed public embedding. How many
candidates there are follows from the declared count and the noise.

**Teacher.** With `teacher`, a DP linear classifier takes a share of the budget, and drawn images are
dealt to the labels that it sees in them.

**Sources.** Lin et al. 2024, Differentially private synthetic data via foundation model APIs
(private evolution, ICLR); Lin et al. 2025, Sim-PE: simulators in place of foundation models. The
prior: see training/phantoms/prior.py.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from privacy.manifests import DatasetSchema
from privacy.mechanisms import GaussianStage, Mechanism, Stage
from privacy.presets import Preset
from training.checkpoints import Arrays, Progress
from training.dealing import DealtSamples
from training.generators import SampleProgress
from training.phantom_evolution import (
    Candidates,
    draw,
    first_candidates,
    nearest_votes,
    next_candidates,
    settle,
    squared_distances,
    vary,
    weights_from_votes,
)
from training.phantom_features import Embedding
from training.phantoms.prior import Prior, emphasised
from training.randomness import reproducible
from training.records import TrainingRecords, encode
from training.releases import release_sum
from training.run import Run
from training.teacher import STAGE as TEACHER_STAGE
from training.teacher import Teacher, TeacherOptions, confidence, fit_teacher

_ROUNDS = 4
_TEACHER = "teacher/"
_IMAGES_AT_ONCE = 500
_RECORDS_AT_ONCE = 256
_FEWEST_CANDIDATES = 6
# A candidate should get so many times the noise in votes, were all alike.
_VOTES_PER_NOISE = 1.5
# The survivors' look is fixed for scoring.
_PORTRAIT_SEED = 7


class Config(TeacherOptions):
    """What a data owner may set; every default was chosen on phantoms."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    candidates: int = Field(
        default=150,
        ge=6,
        le=1000,
        description="Most candidates per label (count); few persons or much noise mean fewer.",
    )
    nearest: int = Field(
        default=3,
        ge=1,
        le=6,
        description="Candidates that each image votes for, in equal parts (count).",
    )
    threshold: float = Field(
        default=1.5,
        ge=0,
        le=10,
        description="Votes below this many standard deviations of the noise are dropped (ratio).",
    )
    emphasis: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Prior knees: 0 is published anatomy, 1 exaggerates the grades (share).",
    )
    step: float = Field(
        default=0.7,
        gt=0,
        lt=1,
        description="How much smaller each round's variation is than the one before (ratio).",
    )
    votes_1: float = Field(
        default=2.0, ge=1, le=100, description="Noise of round 1, relative to the others (ratio)."
    )
    votes_2: float = Field(
        default=2.0, ge=1, le=100, description="Noise of round 2, relative to the others (ratio)."
    )
    votes_3: float = Field(
        default=2.0, ge=1, le=100, description="Noise of round 3, relative to the others (ratio)."
    )
    votes_4: float = Field(
        default=2.0, ge=1, le=100, description="Noise of round 4, relative to the others (ratio)."
    )


STAGES: tuple[Stage, ...] = (
    *(GaussianStage(stage=f"votes_{n}", noise_ratio=f"votes_{n}") for n in range(1, _ROUNDS + 1)),
    TEACHER_STAGE,
)

PRESETS = {
    "quick": Preset(summary="Few candidates, no teacher.", settings={"candidates": 50}),
    "balanced": Preset(
        summary="The candidates that the declared count carries, and a teacher that relabels.",
        settings={"teacher": "relabel"},
    ),
    "best": Preset(
        summary="More candidates, and a teacher that chooses from a larger pool of images.",
        settings={"candidates": 300, "teacher": "relabel", "teacher_pool": 3.0},
    ),
}


@dataclass(frozen=True, eq=False)
class Fitted(DealtSamples):
    """Surviving parameters with their weights, and the embedding they were compared in."""

    config: Config
    schema: DatasetSchema
    survivors: Candidates
    weights: NDArray[np.float64]  # (labels, count), each row sums to 1
    embedding: Embedding
    mechanisms: tuple[Mechanism, ...] = ()
    teacher: Teacher | None = None

    def drawn(
        self, labels: NDArray[np.integer], *, seed: int, progress: SampleProgress | None = None
    ) -> NDArray[np.integer]:
        """Render varied survivors, without the teacher."""
        rng = reproducible(seed)
        tables, sides = self._draw_parameters(np.asarray(labels, dtype=np.int64), rng)
        parts = [draw(tables[:0], sides[:0], schema=self.schema, rng=rng)]
        for start in range(0, len(labels), _IMAGES_AT_ONCE):
            block = slice(start, min(start + _IMAGES_AT_ONCE, len(labels)))
            parts.append(draw(tables[block], sides[block], schema=self.schema, rng=rng))
            if progress is not None:
                progress(block.stop, len(labels))
        return np.concatenate(parts)

    def _draw_parameters(
        self, labels: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        chance = rng.random(len(labels))
        cumulative = np.cumsum(self.weights, axis=1)[labels]
        parents = np.minimum(
            (cumulative < chance[:, None]).sum(axis=1), self.weights.shape[1] - 1
        ).astype(np.int64)
        step = self.config.step**_ROUNDS
        table = vary(
            self.survivors.table[labels, parents], step, prior=_prior(self.config), rng=rng
        )
        return table, self.survivors.is_right[labels, parents]

    def score(
        self, images: NDArray[np.integer], labels: NDArray[np.integer], *, seed: int
    ) -> dict[str, NDArray[np.float64]]:
        """Return attack scores per record (N,); higher = more likely a member.

        `nearest_survivor` is minus the distance to the nearest survivor.
        """
        del seed  # survivors are always shown in the same grain
        portraits = _features_of(
            self.survivors, self.embedding, schema=self.schema, rng=reproducible(_PORTRAIT_SEED)
        )
        nearest = np.zeros(len(images))
        for start in range(0, len(images), _RECORDS_AT_ONCE):
            block = slice(start, start + _RECORDS_AT_ONCE)
            features = self.embedding(encode(images[block], self.schema))
            for row, label in enumerate(np.asarray(labels[block], dtype=np.int64)):
                alive = portraits[label][self.weights[label] > 0]
                nearest[start + row] = squared_distances(features[row : row + 1], alive).min()
        return {"nearest_survivor": -np.sqrt(nearest)} | confidence(self.teacher, images, labels)

    def state(self) -> Arrays:
        """Return parameters, weights, the embedding's arrays and the teacher's."""
        taught = {} if self.teacher is None else self.teacher.state()
        return {f"{_TEACHER}{k}": v for k, v in taught.items()} | {
            "table": self.survivors.table,
            "is_right": self.survivors.is_right.astype(np.uint8),
            "weights": self.weights,
            "centre": self.embedding.centre,
            "spread": self.embedding.spread,
            "weight": self.embedding.weight,
            "readout": self.embedding.readout,
        }

    def with_mechanisms(self, mechanisms: tuple[Mechanism, ...]) -> Self:
        """Return the same generator with the mechanisms that its manifest records."""
        return replace(self, mechanisms=mechanisms)

    @classmethod
    def from_state(cls, state: Arrays, *, config: Config, schema: DatasetSchema) -> Self:
        """Rebuild what `state` returned."""
        taught = {k.removeprefix(_TEACHER): v for k, v in state.items() if k.startswith(_TEACHER)}
        return cls(
            config=config,
            schema=schema,
            survivors=Candidates(
                table=state["table"].astype(np.float32), is_right=state["is_right"].astype(bool)
            ),
            weights=state["weights"].astype(np.float64),
            embedding=Embedding(
                **{
                    name: state[name].astype(np.float32)
                    for name in ("centre", "spread", "weight", "readout")
                }
            ),
            teacher=Teacher.from_state(taught, options=config, schema=schema),
        )


def from_state(state: Arrays, *, config: Config, schema: DatasetSchema) -> Fitted:
    """Rebuild a fitted generator from its arrays."""
    return Fitted.from_state(state, config=config, schema=schema)


def fit(
    records: TrainingRecords, config: Config, *, schema: DatasetSchema, run: Run, seed: int
) -> Fitted:
    """Run the rounds of votes, fit the teacher if there is one, and return the last survivors.

    Raises: InvalidParameter if the records contradict the schema; ReleaseLost on a resume whose
    released histogram is gone.
    """
    records = records.checked(schema)
    kept = Progress(run)
    prior = _prior(config)
    embedding = Embedding.of(schema, prior=prior)
    # Everything drawn from this stream is public, so a resume draws the same candidates again.
    rng = reproducible(seed)
    count = candidate_count(run.mechanisms[:_ROUNDS], config=config, schema=schema)
    survivors = first_candidates(count, schema=schema, prior=prior, rng=rng)
    weights = np.full((len(schema.labels), count), 1 / count)
    for index, mechanism in enumerate(run.mechanisms[:_ROUNDS]):
        if index > 0:
            survivors = next_candidates(
                survivors, weights, config.step**index, prior=prior, rng=rng
            )
        portraits = _features_of(survivors, embedding, schema=schema, rng=rng)
        election = _Election(records, portraits, embedding, config, schema)
        votes = kept.release_once(index, partial(election.release, mechanism))
        weights = weights_from_votes(
            votes["votes"].astype(np.float64),
            noise=mechanism.noise_multiplier,
            threshold=config.threshold,
        )
        survivors = settle(survivors, weights)
        run.progress("votes", index + 1, _ROUNDS)
    fitted = Fitted(
        config=config,
        schema=schema,
        survivors=survivors,
        weights=weights,
        embedding=embedding,
        mechanisms=run.mechanisms,
        teacher=fit_teacher(records, config, schema=schema, run=run, kept=kept),
    )
    shown = np.repeat(np.arange(len(schema.labels)), 8)[:64]
    run.show_samples(fitted.sample(shown, seed=0), shown)
    return fitted


def candidate_count(
    mechanisms: tuple[Mechanism, ...], *, config: Config, schema: DatasetSchema
) -> int:
    """Return how many candidates a label can afford, from the declared count and the noise only."""
    noise = max(mechanism.noise_multiplier for mechanism in mechanisms)
    votes = schema.declared_count * config.nearest**0.5 / len(schema.labels)
    affordable = int(votes / (_VOTES_PER_NOISE * noise))
    return max(_FEWEST_CANDIDATES, min(config.candidates, affordable))


@dataclass(frozen=True, eq=False)
class _Election:
    """One round: every person's votes for the candidates, released once."""

    records: TrainingRecords
    portraits: NDArray[np.float32]  # (labels, count, F), public
    embedding: Embedding
    config: Config
    schema: DatasetSchema

    def release(self, mechanism: Mechanism) -> Arrays:
        """Return the noised histogram {"votes": (labels, count)}."""
        noised = release_sum(
            self.votes,
            self.records.labels,
            people=self.records.by_person(),
            cell_count=len(self.schema.labels),
            mechanism=mechanism,
        )
        return {"votes": noised}

    def votes(self, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the vote vectors of records. PRIVATE. Shapes: (R,) -> (R, count)."""
        votes = np.zeros((len(chosen), self.portraits.shape[1]))
        for start in range(0, len(chosen), _RECORDS_AT_ONCE):
            block = chosen[start : start + _RECORDS_AT_ONCE]
            votes[start : start + len(block)] = nearest_votes(
                self.embedding(encode(self.records.images[block], self.schema)),
                self.portraits,
                self.records.labels[block],
                nearest=self.config.nearest,
            )
        return votes


def _features_of(
    candidates: Candidates, embedding: Embedding, *, schema: DatasetSchema, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return how the candidates look in the embedding. Shapes: (labels, count, F)."""
    images = candidates.render(schema, rng)
    labels, count = images.shape[:2]
    features = embedding(images.reshape(-1, schema.height, schema.width))
    return features.reshape(labels, count, -1)


def _prior(config: Config) -> Prior:
    return emphasised(config.emphasis)
