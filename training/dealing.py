"""Deals drawn images to the labels asked for, by what a teacher sees in them.

*relabel*: more images than wanted are drawn (and moved a little, if the options say so), and each
requested label gets images in which the teacher sees it. Ordered grades are laid along the teacher's
*order*: a noised threshold between two grades may swallow a grade whole, and drawn images look worse
or better to a teacher than real ones do, but their order survives both. *filter*: an image in which
the teacher sees another label than it was drawn for is drawn again, a few times at most.

The labels that leave are those that were asked for, whatever the teacher says. All of it is
post-processing of noised values.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from training.generators import SampleProgress
from training.teacher import Teacher, TeacherOptions
from training.warping import warped

_REDRAWS = 4


class Draw(Protocol):
    """A generator's plain way to draw one image per label."""

    def __call__(
        self, labels: NDArray[np.integer], *, seed: int, progress: SampleProgress | None = None
    ) -> NDArray[np.integer]:
        """Return images, the same for the same seed. Shapes: (M,) -> (M, H, W)."""


class _Fitted(Protocol):
    @property
    def config(self) -> TeacherOptions: ...

    @property
    def teacher(self) -> Teacher | None: ...

    def drawn(
        self, labels: NDArray[np.integer], *, seed: int, progress: SampleProgress | None = None
    ) -> NDArray[np.integer]: ...


class DealtSamples:
    """What generators with a teacher share: `drawn` draws for itself, `sample` deals what it drew."""

    def sample(
        self: _Fitted,
        labels: NDArray[np.integer],
        *,
        seed: int,
        progress: SampleProgress | None = None,
    ) -> NDArray[np.integer]:
        """Draw one image per label, the same for the same seed. Shapes: (M,) -> (M, H, W).

        With a teacher, images are dealt to the labels that it sees in them; ordered grades along
        the order in which it puts the images.
        """
        return dealt(
            self.drawn,
            labels,
            teacher=self.teacher,
            options=self.config,
            seed=seed,
            progress=progress,
        )


def dealt(
    draw: Draw,
    labels: NDArray[np.integer],
    *,
    teacher: Teacher | None,
    options: TeacherOptions,
    seed: int,
    progress: SampleProgress | None = None,
) -> NDArray[np.integer]:
    """Return one image per requested label, with the labels that the teacher sees in them.

    Without a teacher this is a plain draw. Shapes: (M,) -> (M, H, W), the same for the same seed.
    """
    labels = np.asarray(labels, dtype=np.int64)
    if teacher is None or options.teacher == "off" or len(labels) == 0:
        return draw(labels, seed=seed, progress=progress)
    if options.teacher == "filter":
        return _filtered(draw, labels, teacher=teacher, seed=seed, progress=progress)
    asked = np.resize(labels, int(np.ceil(options.teacher_pool * len(labels))))
    drawn = draw(asked, seed=seed, progress=_scaled(progress, len(labels)))
    rng = np.random.default_rng(np.random.SeedSequence([seed, len(labels)]))
    # A grade may hang on a few pixels' distance, which a warp changes.
    strength = 0.0 if teacher.is_ordinal else options.teacher_warp
    images = warped(drawn, strength=strength, rng=rng)
    seen = teacher.probabilities(images)
    chosen = deal_by_rank(seen, labels, rng=rng) if teacher.is_ordinal else deal(seen, labels)
    return images[chosen]


def deal(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Choose for each requested label an image of its own, as likely of that label as can be.

    Images are first offered to the label that the teacher gives them, in the order in which they
    were drawn; labels still short take the likeliest of what is left, the shortest first. Shapes:
    (N, labels), (M,) -> (M,) distinct indices, M <= N.
    """
    seen = probabilities.argmax(axis=1)
    chosen = np.full(len(labels), -1, dtype=np.int64)
    is_free = np.ones(len(seen), dtype=bool)
    short = []
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        found = np.flatnonzero(seen == label)[: len(places)]
        chosen[places[: len(found)]] = found
        is_free[found] = False
        short.append((len(places) - len(found), label, places[len(found) :]))
    for missing, label, places in sorted(short, key=lambda entry: -entry[0]):
        free = np.flatnonzero(is_free)
        best = free[np.argsort(-probabilities[free, label], kind="stable")[:missing]]
        chosen[places] = best
        is_free[best] = False
    return chosen


def deal_by_rank(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], *, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Choose for each requested grade an image of its own from the grade's band of the order.

    Bands are as wide as the grades' shares of the request. Shapes: (N, grades), (M,) -> (M,)
    distinct indices, M <= N.
    """
    grades = probabilities.shape[1]
    order = np.argsort(probabilities @ np.arange(grades), kind="stable")
    wanted = np.bincount(labels, minlength=grades)
    edges = np.cumsum([0, *wanted]) * len(order) // max(len(labels), 1)
    chosen = np.empty(len(labels), dtype=np.int64)
    for grade in range(grades):
        band = order[edges[grade] : edges[grade + 1]]
        chosen[labels == grade] = rng.permutation(band)[: wanted[grade]]
    return chosen


def _filtered(
    draw: Draw,
    labels: NDArray[np.integer],
    *,
    teacher: Teacher,
    seed: int,
    progress: SampleProgress | None,
) -> NDArray[np.integer]:
    """Draw images, and draw again, `_REDRAWS` times at most, where the teacher sees another label."""
    images = draw(labels, seed=seed, progress=progress)
    best = teacher.probabilities(images)
    for round_number in range(1, _REDRAWS + 1):
        places = np.flatnonzero(best.argmax(axis=1) != labels)
        if len(places) == 0:
            break
        again = draw(labels[places], seed=_derived(seed, round_number))
        table = teacher.probabilities(again)
        own = labels[places]
        is_better = table[np.arange(len(own)), own] > best[places, own]
        images[places[is_better]] = again[is_better]
        best[places[is_better]] = table[is_better]
    return images


def _derived(seed: int, round_number: int) -> int:
    return int(np.random.SeedSequence([seed, round_number]).generate_state(1)[0])


def _scaled(progress: SampleProgress | None, wanted: int) -> SampleProgress | None:
    """Report a pool's progress in images wanted."""
    if progress is None:
        return None
    return lambda done, total: progress(done * wanted // total, wanted)
