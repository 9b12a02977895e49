"""A DP teacher: a linear classifier under DP-SGD, which relabels what a generator draws.

The teacher sees private records through fixed features (`features.py`) and DP-SGD over persons
(`dp_sgd.py`): a person's gradient is the average over all their images, clipped as a whole. It
takes a stated share of the budget and is the last mechanism of a generator. What it says about
synthetic images afterwards is post-processing and costs nothing.

It is asked about drawn images, which lack detail that records have. A generator may therefore show it each
record twice: as it is, and as the generator would draw it (`Redraw`). Both views belong to the record, whose
loss is their average, so that sensitivity and budget stay what they are.

*Nominal* labels: softmax regression. *Ordinal* labels (grades in the order declared): one direction
and a threshold between neighbouring grades, each a logistic regression that shares the direction
(CORAL, Cao et al. 2020, arXiv:1901.07884), so that far fewer numbers are noised.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.nn import functional

from privacy.errors import InvalidParameter
from privacy.manifests import DatasetSchema
from privacy.mechanisms import DpSgdStage
from training import dp_sgd
from training.checkpoints import Arrays, Progress
from training.features import Layout, features
from training.records import TrainingRecords
from training.run import Run

Use = Literal["off", "relabel", "filter"]
# Images as a generator would draw them: (N, H, W) -> the same. Each is made from its own pixels and released
# values alone, its random grain too, or one record would change what another one adds.
Redraw = Callable[[NDArray[np.integer]], NDArray[np.integer]]

_STAGE = "teacher"
_IMAGES_AT_ONCE = 2048
_MOST_IMAGES_PER_PERSON = 64
_PARTS = 20
_LEAST_CHANCE = 1e-9
_AVERAGE_DECAY = 0.9  # of the weights' moving average, per step
# Features have norm 1; a larger scale makes the bias a smaller part of what is clipped, and lets
# Adam's steps count for more.
_FEATURE_SCALE = 8.0


class TeacherOptions(BaseModel):
    """The fields that a generator's Config inherits to have a teacher."""

    teacher: Use = Field(
        default="off",
        description="What a DP classifier does with drawn images: nothing, relabel them, or refuse "
        "those that it gives another label (off, relabel, filter).",
    )
    teacher_labels: Literal["nominal", "ordinal"] = Field(
        default="nominal",
        description="Whether the declared labels are grades in order (nominal, ordinal).",
    )
    teacher_steps: int = Field(
        default=60, ge=1, le=10_000, description="DP-SGD steps of the teacher (count)."
    )
    teacher_sampling_rate: float = Field(
        default=0.25,
        gt=0,
        le=1,
        description="Probability with which a person enters a step of the teacher (probability).",
    )
    teacher_noise_ratio: float = Field(
        default=1.4,
        ge=1,
        le=100,
        description="Noise of the teacher, relative to spending the whole target on it (ratio).",
    )
    teacher_learning_rate: float = Field(
        default=0.1, gt=0, le=10, description="Adam's first step size for the teacher (ratio)."
    )
    teacher_pool: float = Field(
        default=1.5,
        ge=1,
        le=20,
        description="Images drawn for each image that is dealt when relabelling (ratio).",
    )
    teacher_warp: float = Field(
        default=0.0,
        ge=0,
        le=3,
        description="How far drawn images are turned, stretched and bent before they are relabelled "
        "(ratio; 1 is at most 12 degrees and 12 %, 0 leaves them alone); never with ordinal labels.",
    )


STAGE = DpSgdStage(
    stage=_STAGE,
    steps="teacher_steps",
    sampling_rate="teacher_sampling_rate",
    noise_ratio="teacher_noise_ratio",
    only_if="teacher",
)


@dataclass(frozen=True, eq=False)
class Teacher:
    """A fitted linear classifier of images."""

    network: nn.Module
    schema: DatasetSchema
    is_ordinal: bool

    def probabilities(self, images: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the probability of each declared label. Shapes: (N, H, W) -> (N, labels)."""
        parts = [np.zeros((0, len(self.schema.labels)))]
        for start in range(0, len(images), _IMAGES_AT_ONCE):
            block = _scaled_features(images[start : start + _IMAGES_AT_ONCE], self.schema)
            with torch.no_grad():
                logits = self.network(torch.from_numpy(block)).double()
            table = _ordered(logits) if self.is_ordinal else torch.softmax(logits, dim=1)
            parts.append(table.numpy())
        return np.concatenate(parts)

    def state(self) -> Arrays:
        """Return the weights by name."""
        return {k: v.numpy() for k, v in self.network.state_dict().items()}

    @classmethod
    def from_state(
        cls, state: Arrays, *, options: TeacherOptions, schema: DatasetSchema
    ) -> Self | None:
        """Rebuild what `state` returned; None where the options have no teacher."""
        if options.teacher == "off":
            return None
        teacher = cls.blank(options, schema)
        teacher.network.load_state_dict(
            {k: torch.from_numpy(np.array(v)) for k, v in state.items()}
        )
        return teacher

    @classmethod
    def blank(cls, options: TeacherOptions, schema: DatasetSchema) -> Self:
        """Return a teacher that has learnt nothing: all weights are 0."""
        is_ordinal = options.teacher_labels == "ordinal"
        size, labels = Layout.of(schema).size, len(schema.labels)
        network = _Ordinal(size, labels) if is_ordinal else nn.Linear(size, labels)
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.requires_grad:
                    parameter.zero_()
        return cls(network=network, schema=schema, is_ordinal=is_ordinal)


def confidence(
    teacher: Teacher | None, images: NDArray[np.integer], labels: NDArray[np.integer]
) -> dict[str, NDArray[np.float64]]:
    """Return {"teacher_confidence": log-probability of each record's own label (N,)}, or nothing.

    An attack score: a classifier is surer of what it has learnt from (Yeom et al. 2018).
    """
    if teacher is None:
        return {}
    own = np.asarray(labels, dtype=np.int64)
    chance = teacher.probabilities(images)[np.arange(len(own)), own]
    return {"teacher_confidence": np.log(chance + _LEAST_CHANCE)}


def fit_teacher(
    records: TrainingRecords,
    options: TeacherOptions,
    *,
    schema: DatasetSchema,
    run: Run,
    kept: Progress,
    redraw: Redraw | None = None,
) -> Teacher | None:
    """Train the teacher within the run's mechanism of that name; None where it is switched off.

    With `redraw` it sees each record as it is and redrawn.

    Raises: InvalidParameter if the run reserved no such mechanism.
    """
    if options.teacher == "off":
        return None
    stages = [mechanism.stage for mechanism in run.mechanisms]
    if _STAGE not in stages:
        raise InvalidParameter(
            f"Fitting a teacher was refused: the run reserves {', '.join(stages) or 'nothing'} and "
            f"no {_STAGE!r}. Plan again with this configuration."
        )
    teacher = Teacher.blank(options, schema)
    dp_sgd.train(
        teacher.network,
        _Lessons(records, teacher, run, redraw),
        people=records.by_person(),
        index=stages.index(_STAGE),
        settings=_settings(options, schema),
        run=run,
        kept=kept,
    )
    return teacher


class _Lessons:
    """The objective of DP-SGD: tell a record's label from its features, in each of its views."""

    def __init__(
        self, records: TrainingRecords, teacher: Teacher, run: Run, redraw: Redraw | None = None
    ) -> None:
        self._labels = torch.from_numpy(np.asarray(records.labels, dtype=np.int64))
        self._is_ordinal = teacher.is_ordinal
        size, views = Layout.of(teacher.schema).size, 1 if redraw is None else 2
        # Half precision halves the memory of the largest thing that a fit holds.
        self._features = np.empty((len(records), views, size), dtype=np.float16)
        # A fixed number of parts: how many records there are is private.
        edges = np.linspace(0, len(records), _PARTS + 1).round().astype(int)
        for part, (start, stop) in enumerate(pairwise(edges)):
            block = records.images[start:stop]
            self._features[start:stop, 0] = _scaled_features(block, teacher.schema)
            if redraw is not None:
                self._features[start:stop, 1] = _scaled_features(redraw(block), teacher.schema)
            run.progress("features", part + 1, _PARTS)

    def examples(self, records: NDArray[np.int64]) -> dp_sgd.Examples:
        """Return features (R, views, D) and labels (R,) of records."""
        values = torch.from_numpy(self._features[records].astype(np.float32))
        return values, self._labels[torch.from_numpy(records)]

    def loss(self, network: Callable[..., Tensor], examples: dp_sgd.Examples) -> Tensor:
        """Return the cross-entropy of each record, averaged over its views (nats)."""
        values, labels = examples
        logits = network(values)  # (R, views, labels or thresholds)
        of_views = labels[:, None].expand(logits.shape[:2])
        if not self._is_ordinal:
            losses = functional.cross_entropy(
                logits.flatten(0, 1), of_views.flatten(), reduction="none"
            )
            return losses.view(of_views.shape).mean(dim=1)
        is_above = (of_views[..., None] > torch.arange(logits.shape[2])).float()
        losses = functional.binary_cross_entropy_with_logits(logits, is_above, reduction="none")
        return losses.sum(dim=2).mean(dim=1)


class _Ordinal(nn.Module):
    """One direction, and a threshold between neighbouring grades. Shapes: (..., D) -> (..., grades - 1).

    The outputs are the logits of being above each grade but the last.
    """

    def __init__(self, size: int, grades: int) -> None:
        super().__init__()
        self.direction = nn.Linear(size, 1, bias=False)
        self.thresholds = nn.Linear(1, max(grades - 1, 1))
        nn.init.ones_(self.thresholds.weight)
        self.thresholds.weight.requires_grad_(False)  # noqa: FBT003  (torch names it so)

    def forward(self, values: Tensor) -> Tensor:
        """Return the logits."""
        result: Tensor = self.thresholds(self.direction(values))
        return result


def _ordered(logits: Tensor) -> Tensor:
    """Return grade probabilities; noise may have crossed thresholds, so they are put in order."""
    above = torch.sigmoid(logits).cummin(dim=1).values
    edge = torch.ones_like(above[:, :1])
    ladder = torch.cat([edge, above, torch.zeros_like(edge)], dim=1)
    return ladder[:, :-1] - ladder[:, 1:]


def _settings(options: TeacherOptions, schema: DatasetSchema) -> dp_sgd.DpSgdSettings:
    return dp_sgd.DpSgdSettings(
        # Declared, not counted; Adam makes the result nearly free of this divisor.
        expected_batch_size=max(1, round(options.teacher_sampling_rate * schema.declared_count)),
        learning_rate=options.teacher_learning_rate,
        ema_decay=_AVERAGE_DECAY,
        images_per_person=_MOST_IMAGES_PER_PERSON,
        physical_batch=_IMAGES_AT_ONCE,
    )


def _scaled_features(images: NDArray[np.integer], schema: DatasetSchema) -> NDArray[np.float32]:
    return features(images, schema) * np.float32(_FEATURE_SCALE)
