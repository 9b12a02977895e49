"""Dry runs: how long a fit will take, and how much memory, measured on random records.

A generator is fitted, twice and cut short, on noise of the declared shape, which is pixels, codes of
declared columns, or both; no record is read and nothing is spent. Steps are the mechanisms' own and those of the Config fields that a generator names
in `FREE_STEPS`: a few are run, timed by the progress that the generator reports, and multiplied.
Everything else is taken as it is, or in proportion to the images where there were too many to try.
"""

import os
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean, median
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray

from privacy.image_parts import image_schema
from privacy.manifests import DatasetSchema
from privacy.mechanisms import DpSgdStage, Mechanism, PoissonSubsampledGaussianMechanism
from privacy.modality import Modality
from privacy.table_schema import TableSchema
from training import artefact
from training.generators import Fitted, GeneratorModule, free_steps
from training.joint_records import JointRecords
from training.records import TrainingRecords, pixel_type
from training.run import LocalRun
from training.table_records import TableRecords

Report = Callable[[str, int, int], None]  # stage, step, steps of the dry run

MOST_PIXELS = 8_000_000
"""Pixels of random images, or cells of random rows, in all; more units are extrapolated to."""
WARM_UNITS = 256
"""Units of the first run, which pays for what happens once and tells how slow a step is."""
WARM_STEPS = 3
STEPS_SECONDS = 6.0
"""Seconds that the steps of one stage may take in the second run."""
LEAST_STEPS, MOST_STEPS = 4, 16
SAMPLES = (16, 216)
"""Images drawn to find the seconds of one image: the difference leaves out what happens once."""
SLOW_SECONDS = 10.0
_OUTLIER = 3.0  # times the median


@dataclass(frozen=True)
class Estimate:
    """What a run is expected to take. Seconds and bytes; `device_bytes` is a GPU's memory."""

    fit_seconds: float
    sample_seconds: float
    peak_bytes: int
    device_bytes: int | None
    device: str
    dry_run_seconds: float

    def document(self) -> dict[str, object]:
        """Return the estimate as JSON-ready values."""
        return {
            "seconds": round(self.fit_seconds + self.sample_seconds, 1),
            "fit_seconds": round(self.fit_seconds, 1),
            "sample_seconds": round(self.sample_seconds, 1),
            "peak_bytes": self.peak_bytes,
            "device_bytes": self.device_bytes,
            "device": self.device,
            "dry_run_seconds": round(self.dry_run_seconds, 1),
        }


def estimate(
    generator: GeneratorModule,
    config: Mapping[str, Any],
    *,
    schema: DatasetSchema | TableSchema,
    mechanisms: Sequence[Mechanism],
    units: int,
    samples: int,
    report: Report | None = None,
) -> Estimate:
    """Try a generator on random records and say what `units` units and `samples` of them will take.

    Each unit has one record. Raises: InvalidParameter if the config or the mechanisms do not fit.
    """
    started = time.monotonic()
    trial = _TRIALS[schema.modality](
        generator, dict(config), schema=schema, planned=tuple(mechanisms), units=units
    )
    _reset_device_memory()
    warm = trial.run(min(units, WARM_UNITS), steps=WARM_STEPS, report=report)
    peak_before, units_before = _peak_bytes(), warm.units
    trial.draw(warm.fitted, SAMPLES[0])
    # Units beyond the largest batch add nothing to a step, so some of them are enough.
    enough = max(MOST_PIXELS // trial.record_size, trial.largest_batch)
    main = trial.run(min(units, enough), steps=_steps_for(warm), report=report)
    growth = max(_peak_bytes() - peak_before, 0) / max(main.units - units_before, 1)
    return Estimate(
        fit_seconds=main.extrapolated(units),
        sample_seconds=trial.sample_seconds(main.fitted, samples),
        peak_bytes=round(
            _peak_bytes() + growth * (units - main.units) + trial.drawn_bytes(samples)
        ),
        device_bytes=_device_bytes(),
        device=machine(),
        dry_run_seconds=time.monotonic() - started,
    )


def machine() -> str:
    """Return what computes here, in words."""
    kind = artefact.device()
    if kind.startswith("cuda"):
        return torch.cuda.get_device_name()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{kind}, {torch.get_num_threads()} threads on {cores} cores"


class _Timed(LocalRun):
    """A run in memory that notes when each step of each stage was reported."""

    def __init__(self, mechanisms: Sequence[Mechanism], report: Report | None) -> None:
        super().__init__(mechanisms)
        self.moments: dict[tuple[str, int], list[tuple[float, int]]] = {}
        self.totals: dict[tuple[str, int], int] = {}
        self._report = report
        self._index = -1

    def charge(self, index: int, steps: int) -> None:
        """Note which mechanism is at work."""
        super().charge(index, steps)
        self._index = index

    def progress(
        self,
        stage: str,
        step: int,
        total: int,
        *,
        public_metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Note the moment."""
        super().progress(stage, step, total, public_metrics=public_metrics)
        place = (stage, self._index)
        self.moments.setdefault(place, []).append((time.monotonic(), step))
        self.totals[place] = total
        if self._report is not None:
            self._report(stage, step, total)


@dataclass(frozen=True)
class _Stepped:
    """A stage that takes steps: how many were taken, how many are planned, seconds of each."""

    taken: int
    planned: int
    seconds: float


@dataclass(frozen=True)
class _Measured:
    """One cut-short fit."""

    fitted: Fitted
    seconds: float
    units: int
    stages: tuple[_Stepped, ...]

    def extrapolated(self, units: int) -> float:
        """Return the seconds of the whole fit on `units` units."""
        stepped = sum(stage.taken * stage.seconds for stage in self.stages)
        rest = max(self.seconds - stepped, 0.0) * max(units / self.units, 1.0)
        return rest + sum(stage.planned * stage.seconds for stage in self.stages)


class _Trial:
    """A generator, and what is planned for it."""

    def __init__(
        self,
        generator: GeneratorModule,
        config: dict[str, Any],
        *,
        schema: Any,
        planned: tuple[Mechanism, ...],
        units: int,
    ) -> None:
        self._generator, self._config, self._schema = generator, config, schema
        self._planned, self._units = planned, units
        self._free = free_steps(generator)
        self._rng = np.random.default_rng(0)
        rates = [m.sampling_rate for m in planned if _is_dp_sgd(m)]
        self.largest_batch = round(max(rates, default=0.0) * units)

    def run(self, units: int, *, steps: int, report: Report | None) -> _Measured:
        """Fit on `units` random images with at most `steps` steps a stage."""
        run = _Timed([self._cut(m, units=units, steps=steps) for m in self._planned], report)
        config = self._generator.Config.model_validate(self._cut_config(steps))
        records = self._random_records(units)
        started = time.monotonic()
        fitted = self._generator.fit(records, config, schema=self._schema, run=run, seed=0)
        seconds = time.monotonic() - started
        return _Measured(fitted, seconds, units, tuple(self._stepped(run)))

    def draw(self, fitted: Fitted, count: int) -> float:
        """Draw `count` images; return the seconds that it took."""
        labels = (np.arange(count) % len(self._schema.labels)).astype(np.int64)
        started = time.monotonic()
        fitted.sample(labels, seed=0)
        return time.monotonic() - started

    def sample_seconds(self, fitted: Fitted, samples: int) -> float:
        """Return the seconds of drawing `samples` images."""
        few, more = SAMPLES
        first = self.draw(fitted, few)
        if first > SLOW_SECONDS:
            return first * samples / few
        each = max(self.draw(fitted, more) - first, 0.0) / (more - few)
        return first + each * max(samples - few, 0)

    @property
    def record_size(self) -> int:
        """Return the pixels of one image."""
        pixels: int = self._schema.height * self._schema.width
        return pixels

    def drawn_bytes(self, samples: int) -> int:
        """Return the bytes of all synthetic images at once, as float64 and as pixels."""
        each = np.dtype(np.float64).itemsize + np.dtype(pixel_type(self._schema)).itemsize
        return samples * self.record_size * each

    def _random_records(self, units: int) -> Any:
        return TrainingRecords(
            images=_random_pictures(units, self._schema, self._rng),
            labels=self._rng.integers(0, len(self._schema.labels), units).astype(np.int16),
            persons=np.arange(units, dtype=np.int32),
        )

    def _cut(self, mechanism: Mechanism, *, units: int, steps: int) -> Mechanism:
        if not _is_dp_sgd(mechanism):
            return mechanism
        batch = mechanism.sampling_rate * self._units
        change = {"steps": min(mechanism.steps, steps), "sampling_rate": min(1.0, batch / units)}
        return mechanism.model_copy(update=change)

    def _cut_config(self, steps: int) -> dict[str, Any]:
        """Return the config with every field that counts steps cut short."""
        fields = {*self._free}
        for stage in self._generator.STAGES:
            if isinstance(stage, DpSgdStage) and isinstance(stage.steps, str):
                fields.add(stage.steps)
        cut = {name: min(self._config[name], steps) for name in fields if name in self._config}
        return self._config | cut

    def _stepped(self, run: _Timed) -> list[_Stepped]:
        found = []
        for place, moments in run.moments.items():
            planned = self._planned_steps(place, total=run.totals[place], run=run)
            pace = _pace(moments)
            if planned is not None and pace is not None:
                found.append(_Stepped(run.totals[place], planned, pace))
        return found

    def _planned_steps(self, place: tuple[str, int], *, total: int, run: _Timed) -> int | None:
        """Return how many steps are planned where `total` were run, or None for other work."""
        stage, index = place
        for field, free_stage in self._free.items():
            if free_stage == stage:
                return int(self._config[field])
        if index < 0 or not _is_dp_sgd(self._planned[index]):
            return None
        return self._planned[index].steps if total == run.mechanisms[index].steps else None


class _TableTrial(_Trial):
    """The same for a table: rows of random codes, evenly over every declared column."""

    @property
    def record_size(self) -> int:
        """Return the cells of one row."""
        return len(self._schema.columns)

    def draw(self, fitted: Any, count: int) -> float:
        """Draw `count` rows; return the seconds that it took."""
        started = time.monotonic()
        fitted.sample(count, seed=0)
        return time.monotonic() - started

    def drawn_bytes(self, samples: int) -> int:
        """Return the bytes of all synthetic rows at once, as values and as codes."""
        each = np.dtype(np.float64).itemsize + np.dtype(np.int16).itemsize
        return samples * self.record_size * each

    def _random_records(self, units: int) -> Any:
        codes = np.empty((units, len(self._schema.columns)), dtype=np.int16)
        for index, size in enumerate(self._schema.sizes):
            codes[:, index] = self._rng.integers(0, size, units)
        return TableRecords(codes=codes, persons=np.arange(units, dtype=np.int32))


class _JointTrial(_TableTrial):
    """The same for rows with an image each."""

    @property
    def record_size(self) -> int:
        """Return the pixels of one image and the cells of its row."""
        pictures = image_schema(self._schema)
        return pictures.height * pictures.width + len(self._schema.columns)

    def drawn_bytes(self, samples: int) -> int:
        """Return the bytes of all synthetic rows and images at once."""
        # Images are drawn a few thousand at a time, so their floating-point numbers do not add up.
        columns = len(self._schema.columns)
        pixels = self.record_size - columns
        each = np.dtype(pixel_type(image_schema(self._schema))).itemsize
        cell = np.dtype(np.float64).itemsize + np.dtype(np.int16).itemsize
        return samples * (pixels * each + columns * cell)

    def _random_records(self, units: int) -> JointRecords:
        table = super()._random_records(units)
        pictures = _random_pictures(units, image_schema(self._schema), self._rng)
        return JointRecords.of(table.codes, pictures, table.persons, schema=self._schema)


_TRIALS: dict[Modality, type[_Trial]] = {
    "image": _Trial,
    "table": _TableTrial,
    "joint": _JointTrial,
}


def _random_pictures(
    units: int, schema: DatasetSchema, rng: np.random.Generator
) -> NDArray[np.integer]:
    """Return pictures of noise (units, height, width)."""
    kind = pixel_type(schema)
    shape = (units, schema.height, schema.width)
    return rng.integers(0, np.iinfo(kind).max, shape, dtype=kind, endpoint=True)


def _pace(moments: Sequence[tuple[float, int]]) -> float | None:
    """Return the mean seconds of a step; grids and checkpoints (outliers) are left out."""
    steps = [
        (late - early) / (after - before)
        for (early, before), (late, after) in pairwise(moments)
        if after > before
    ]
    usual = [seconds for seconds in steps if seconds <= _OUTLIER * median(steps)]
    return mean(usual) if usual else None


def _steps_for(warm: _Measured) -> int:
    slowest = max((stage.seconds for stage in warm.stages), default=0.0)
    return int(np.clip(STEPS_SECONDS / max(slowest, 1e-3), LEAST_STEPS, MOST_STEPS))


def _is_dp_sgd(mechanism: Mechanism) -> TypeGuard[PoissonSubsampledGaussianMechanism]:
    return isinstance(mechanism, PoissonSubsampledGaussianMechanism)


def _peak_bytes() -> int:
    """Return the most memory that this process has had; kibibytes on Linux."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _reset_device_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _device_bytes() -> int | None:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
