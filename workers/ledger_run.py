"""The run of a training job: it spends from the ledger before a step is taken.

Every charge is one fenced transaction (`operations.jobs.charge_steps`), durable in the database and
anchored in object storage before it returns, so that whatever a generator does next has been paid
for. A process that was killed lost at most steps that are charged and never ran: they stay charged.
"""

import io
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from privacy.errors import ReservationExceeded
from privacy.mechanisms import Mechanism
from service.operations import jobs
from service.operations.checkpoints import PREFIX
from service.store.objects import Bucket
from training import checkpoints
from training.run import check_public
from workers.context import JobContext

GRID_COLUMNS = 10
GRID_ROWS = 10
GRID_MIN_SIDE_PIXELS = 64


class LedgerRun:
    """Implements `training.run.Run` for one attempt at a TRAIN job."""

    def __init__(
        self, context: JobContext, mechanisms: Sequence[Mechanism], charged: Sequence[int]
    ) -> None:
        """Continue a reservation of which `charged` steps per mechanism are already spent."""
        self.mechanisms = tuple(mechanisms)
        self._context = context
        self._charged = list(charged)
        self._pace = Pace()

    def charged_steps(self, index: int) -> int:
        """Return how many steps of mechanism `index` are charged, by all attempts together."""
        return self._charged[index]

    def charge(self, index: int, steps: int) -> None:
        """Charge steps before they run.

        Raises: ReservationExceeded; LeaseLost when another worker owns the job; JournalBehind.
        """
        reserved = self.mechanisms[index].steps
        if steps < 1 or self._charged[index] + steps > reserved:
            raise ReservationExceeded(
                f"Charging {steps} steps of mechanism {index} was refused: {self._charged[index]} "
                f"of {reserved} reserved steps are already charged. Request a new job for more."
            )
        with self._context.application.uow() as uow:
            jobs.charge_steps(
                uow,
                self._context.job.id,
                token=self._context.token,
                index=index,
                steps=steps,
            )
        self._charged[index] += steps

    def progress(
        self,
        stage: str,
        step: int,
        total: int,
        *,
        public_metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Show how far the run is, with the time that the rest of the stage will take.

        Raises: InvalidParameter for a measured value that is not known to be public.
        """
        check_public(public_metrics)
        self._context.report(
            stage,
            step,
            total,
            eta_seconds=self._pace.eta_seconds(stage, step, total),
            public_metrics=public_metrics,
        )

    def show_samples(self, images: NDArray[np.generic], labels: NDArray[np.integer]) -> None:
        """Store a grid of synthetic images, one row per label, for the owner to look at."""
        self._context.application.objects.put_bytes(
            Bucket.WORK,
            self._context.candidate_key("grid.png"),
            body=grid_png(images, labels),
            content_type="image/png",
        )

    def save_checkpoint(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Keep what a resume needs, under this attempt's own key."""
        self._context.application.objects.put_bytes(
            Bucket.WORK,
            _checkpoint_key(self._context, self._context.job.attempt),
            body=checkpoints.to_bytes(state),
            content_type="application/octet-stream",
        )

    def load_checkpoint(self) -> dict[str, NDArray[np.generic]] | None:
        """Return the checkpoint of the latest attempt that kept one.

        It is not compared with a digest: privacy does not depend on it. Whatever the weights are,
        the steps that follow are charged, clipped and noised; how many are left, the ledger knows.
        """
        objects = self._context.application.objects
        for attempt in range(self._context.job.attempt, 0, -1):
            key = _checkpoint_key(self._context, attempt)
            if objects.exists(Bucket.WORK, key):
                return checkpoints.from_bytes(objects.get_bytes(Bucket.WORK, key))
        return None

    def charged_mechanisms(self) -> tuple[Mechanism, ...]:
        """Return the mechanisms as they were charged, which is at least what ran."""
        return tuple(
            mechanism.model_copy(update={"steps": steps})
            for mechanism, steps in zip(self.mechanisms, self._charged, strict=True)
        )


class Pace:
    """Tell how long a stage still takes, from its speed since this attempt entered it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without a stage. `clock` returns seconds."""
        self._clock = clock
        self._stage = ""
        self._first_step = 0
        self._started = 0.0

    def eta_seconds(self, stage: str, step: int, total: int) -> float | None:
        """Return the seconds left, or None before the first step is done."""
        now = self._clock()
        if stage != self._stage or step < self._first_step:
            self._stage, self._first_step, self._started = stage, step, now
        done = step - self._first_step
        if done <= 0:
            return None
        return round((now - self._started) / done * max(total - step, 0), 1)


def grid_png(images: NDArray[np.generic], labels: NDArray[np.integer]) -> bytes:
    """Return a PNG with one row of images per label, in the order of the labels.

    Shapes: images (samples, height, width) uint8 or uint16; labels (samples,).
    """
    rows = []
    for label in np.unique(labels)[:GRID_ROWS]:
        chosen = np.asarray(images)[np.asarray(labels) == label][:GRID_COLUMNS]
        blank = np.zeros((GRID_COLUMNS - len(chosen), *chosen.shape[1:]), dtype=chosen.dtype)
        rows.append(np.concatenate(list(np.concatenate([chosen, blank])), axis=1))
    grid = np.concatenate(rows, axis=0)
    if grid.dtype.itemsize > 1:
        grid = (grid >> 8).astype(np.uint8)
    factor = max(1, GRID_MIN_SIDE_PIXELS // images.shape[1])
    picture = Image.fromarray(grid.astype(np.uint8))
    picture = picture.resize(
        (grid.shape[1] * factor, grid.shape[0] * factor), Image.Resampling.NEAREST
    )
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    return stream.getvalue()


def _checkpoint_key(context: JobContext, attempt: int) -> str:
    # One key per attempt: a worker that wakes up late cannot overwrite a newer checkpoint.
    return f"{PREFIX}{context.job.id}/{attempt:04d}.safetensors"
