"""One seed of the utility benchmark: plan, fit, sample. All persons train; there is no audit split."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.image_sets import ImageSet
from benchmarks.refusals import refusing_settings
from privacy import accounting
from privacy.manifests import DatasetSchema
from privacy.mechanisms import Mechanism, PrivacyTarget, UnitOfPrivacy, mechanisms_to_json
from privacy.planning import plan_mechanisms
from privacy.presets import choose
from service.walkthrough.display import Display
from training import generators
from training.devices import compute_device
from training.generators import Fitted
from training.records import TrainingRecords
from training.run import LocalRun
from training.utility import Labelled

_PROBE = 400  # images drawn to learn how fast drawing is
_FEWEST_SAMPLES = 2000
NO_PRESET = {"preset_reason": "--preset none: the generator's defaults"}


@dataclass(frozen=True)
class Request:
    """What one run of the benchmark asks of a generator.

    `settings` are laid over those of the preset; `is_ordinal` says that the labels have an order,
    which an owner would declare and a teacher can use. `teacher_only` leaves out the set that a
    generator with a teacher would draw without it.
    """

    generator: str
    preset: str | None
    settings: Mapping[str, Any]
    is_ordinal: bool
    target: PrivacyTarget
    unit: UnitOfPrivacy
    samples: int
    minutes: float | None
    teacher_only: bool = False


@dataclass(frozen=True, eq=False)
class Drawn:
    """A fitted generator's synthetic sets, by whether a teacher relabelled them, and what they cost."""

    config: dict[str, Any]
    mechanisms: tuple[Mechanism, ...]
    sets: dict[bool, Labelled]
    fit_seconds: float
    sample_seconds: dict[bool, float]
    wanted: int
    minutes: float | None

    def as_json(self, request: Request, *, relabelled: bool) -> dict[str, Any]:
        """Return what a result says about fitting and sampling."""
        records = self.sets[relabelled]
        spent = self.fit_seconds + self.sample_seconds[relabelled]
        counts = np.bincount(records.labels)
        return {
            "generator": request.generator,
            "preset": request.preset,
            **(NO_PRESET if request.preset is None else {}),
            "config": self.config,
            "relabelled": relabelled,
            "unit": request.unit.value,
            "epsilon_requested": request.target.epsilon,
            "epsilon_rederived": accounting.epsilon(self.mechanisms, request.target.delta),
            "delta": request.target.delta,
            "mechanisms": mechanisms_to_json(self.mechanisms),
            "fit_seconds": self.fit_seconds,
            "sample_seconds": self.sample_seconds[relabelled],
            "minutes_allowed": self.minutes,
            "within_minutes": None if self.minutes is None else spent <= 60 * self.minutes,
            **({"within_minutes_reason": "no --minutes"} if self.minutes is None else {}),
            "samples": len(records),
            "samples_wanted": self.wanted,
            "label_distribution": (counts / counts.sum()).tolist(),
        }


class WatchedRun(LocalRun):
    """A local run that moves a bar."""

    def __init__(
        self, mechanisms: tuple[Mechanism, ...], advance: Callable[[int, int], None]
    ) -> None:
        super().__init__(mechanisms)
        self._advance = advance

    def progress(
        self,
        stage: str,
        step: int,
        total: int,
        *,
        public_metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Move the bar."""
        super().progress(stage, step, total, public_metrics=public_metrics)
        self._advance(step, total)


def plan(request: Request, schema: DatasetSchema) -> tuple[Any, tuple[Mechanism, ...]]:
    """Return the generator's configuration and its mechanisms, from declared numbers alone."""
    module: Any = generators.load(request.generator)
    config = _configured(request, schema, epsilon=request.target.epsilon)
    mechanisms = plan_mechanisms(
        module.STAGES,
        config=config.model_dump(),
        target=request.target,
        public_train_count=schema.declared_count,
    )
    return config, mechanisms


def configuration_digest(request: Request, schema: DatasetSchema) -> str:
    """Return a digest of the resolved configuration that is the same at every epsilon.

    Presets depend on epsilon where little can be learnt; both of their sides are hashed.
    """
    sides = [
        _configured(request, schema, epsilon=epsilon).model_dump(mode="json")
        for epsilon in (0.0, math.inf)
    ]
    content = json.dumps([request.generator, sides], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _configured(request: Request, schema: DatasetSchema, *, epsilon: float) -> Any:
    """Return the generator's configuration: defaults, then preset, then --set."""
    module: Any = generators.load(request.generator)
    chosen: dict[str, Any] = {}
    if request.preset is not None:
        preset = choose(getattr(module, "PRESETS", {}), request.preset, generator=request.generator)
        has_gpu = compute_device().type == "cuda"
        chosen |= preset.resolved(units=schema.declared_count, epsilon=epsilon, has_gpu=has_gpu)
    fields = module.Config.model_fields
    if request.is_ordinal and "teacher_labels" in fields:
        chosen["teacher_labels"] = "ordinal"
    with refusing_settings(request.generator, fields):
        return module.Config(**(chosen | dict(request.settings)))


def fit_and_sample(request: Request, real: ImageSet, *, seed: int, display: Display) -> Drawn:
    """Fit on all persons of the training set, then draw with labels uniform over the declared set."""
    schema = real.schema.model_copy(update={"unit": request.unit})
    config, mechanisms = plan(request, schema)
    records = TrainingRecords(
        images=real.train.images, labels=real.train.labels, persons=units(real, request.unit)
    )
    started = time.perf_counter()
    with display.step(f"fit {seed}", f"seed {seed}: fit {request.generator}") as advance:
        run = WatchedRun(mechanisms, advance)
        module = generators.load(request.generator)
        fitted = module.fit(records, config, schema=schema, run=run, seed=seed)
    fit_seconds = time.perf_counter() - started
    left = None if request.minutes is None else 60 * request.minutes - fit_seconds
    sets: dict[bool, Labelled] = {}
    seconds: dict[bool, float] = {}
    for relabelled, source in _variants(fitted, teacher_only=request.teacher_only).items():
        count = _affordable(source, schema, wanted=request.samples, seconds=left)
        labels = (np.arange(count) % len(schema.labels)).astype(np.int64)
        started = time.perf_counter()
        title = f"seed {seed}: sample {count}{' with relabelling' if relabelled else ''}"
        with display.step(f"sample {seed} {relabelled}", title) as advance:
            images = source.sample(labels, seed=seed, progress=advance)
        seconds[relabelled] = time.perf_counter() - started
        sets[relabelled] = Labelled.of(images, labels)
    return Drawn(
        config=config.model_dump(mode="json"),
        mechanisms=fitted.mechanisms or mechanisms,
        sets=sets,
        fit_seconds=fit_seconds,
        sample_seconds=seconds,
        wanted=request.samples,
        minutes=request.minutes,
    )


def units(real: ImageSet, unit: UnitOfPrivacy) -> NDArray[np.integer]:
    """Return the unit of privacy of each record."""
    if unit is UnitOfPrivacy.RECORD:
        return np.arange(len(real.train))
    _, numbers = np.unique(real.train.persons, return_inverse=True)
    return np.asarray(numbers)


def _variants(fitted: Fitted, *, teacher_only: bool) -> dict[bool, Fitted]:
    """Return the generator as fitted and, if it has a teacher, without it; the released one first."""
    released: Any = fitted  # not every generator has a teacher
    if getattr(released, "teacher", None) is None:
        return {False: fitted}
    if teacher_only:
        return {True: fitted}
    return {True: fitted, False: replace(released, teacher=None)}


def _affordable(
    fitted: Fitted, schema: DatasetSchema, *, wanted: int, seconds: float | None
) -> int:
    """Return how many images can be drawn in the seconds that are left, from a short probe."""
    if seconds is None or wanted <= _FEWEST_SAMPLES:
        return wanted
    labels = (np.arange(_PROBE) % len(schema.labels)).astype(np.int64)
    started = time.perf_counter()
    fitted.sample(labels, seed=0)
    each = (time.perf_counter() - started) / _PROBE
    return int(min(wanted, max(_FEWEST_SAMPLES, (seconds - each * _PROBE) / each)))
