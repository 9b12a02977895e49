"""The generator contract: one module here is one way to make synthetic images, or a synthetic table.

A module `NAME.py` has a docstring (its documentation), `Config`, `STAGES`, `fit`, `Fitted` and
`from_state`. The file's name is the generator's name; there is no list to edit.

Three more names are optional: `PRESETS`, what "quick", "balanced" and "best" set (`privacy.presets`);
`SUITS_FROM`, the units × epsilon from which this is the generator to recommend; `FREE_STEPS`, the
Config fields that count steps of no mechanism, each with the stage of progress that those steps
report, so that a dry run can cut them short. A `Fitted` may have `gradients` (`WithGradients`), which
audits of somebody who holds the weights look at, and `warnings` (`WithWarnings`), which the result of
the training shows. One of tables may have `sample_persons` (`WithVisits`), for schemas with visits.

A generator of tables names itself one by `MODALITY = "table"`. Its `fit` takes `TableRecords` and a
`TableSchema`, and its `Fitted` is a `FittedTable`. One of rows with an image each does so by
`MODALITY = "joint"`: its `fit` takes `JointRecords`, and its `Fitted` is a `FittedJoint`.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, Protocol, Self, cast, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter
from privacy.manifests import DatasetSchema
from privacy.mechanisms import Mechanism, Stage
from privacy.modality import Modality
from privacy.presets import Preset
from training.records import TrainingRecords
from training.run import Run

SampleProgress = Callable[[int, int], None]  # images or rows drawn, and wanted
MODALITIES: tuple[str, ...] = get_args(Modality)
_REQUIRED = ("Config", "STAGES", "fit", "Fitted", "from_state")


class Fitted(Protocol):
    """A generator that has been fitted. Everything it does is free under DP (post-processing)."""

    @property
    def mechanisms(self) -> tuple[Mechanism, ...]:
        """The ordered mechanisms that ran."""

    def sample(
        self, labels: NDArray[np.integer], *, seed: int, progress: SampleProgress | None = None
    ) -> NDArray[np.integer]:
        """Draw one image per label, the same for the same seed. Shapes: (M,) -> (M, H, W)."""

    def score(
        self, images: NDArray[np.integer], labels: NDArray[np.integer], *, seed: int
    ) -> dict[str, NDArray[np.float64]]:
        """Return scores per record for white-box audits; higher = more likely a member."""

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return all that a rebuilt generator needs, as named arrays."""

    def with_mechanisms(self, mechanisms: tuple[Mechanism, ...]) -> Self:
        """Return the same generator with the mechanisms that its manifest records."""


class FittedTable(Protocol):
    """A generator of tables that has been fitted. Everything it does is free under DP."""

    @property
    def mechanisms(self) -> tuple[Mechanism, ...]:
        """The ordered mechanisms that ran."""

    def sample(
        self, count: int, *, seed: int, progress: SampleProgress | None = None
    ) -> NDArray[np.int16]:
        """Draw rows as codes, the same for the same seed. Shapes: result (count, D)."""

    def score(self, codes: NDArray[np.integer], *, seed: int) -> dict[str, NDArray[np.float64]]:
        """Return scores per row for white-box audits; higher = more likely a member."""

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return all that a rebuilt generator needs, as named arrays."""

    def with_mechanisms(self, mechanisms: tuple[Mechanism, ...]) -> Self:
        """Return the same generator with the mechanisms that its manifest records."""


class FittedJoint(Protocol):
    """A generator of rows with an image each that has been fitted. All it does is free under DP."""

    @property
    def mechanisms(self) -> tuple[Mechanism, ...]:
        """The ordered mechanisms that ran."""

    def sample(
        self, count: int, *, seed: int, progress: SampleProgress | None = None
    ) -> tuple[NDArray[np.int16], NDArray[np.integer]]:
        """Draw rows as codes (count, D) and the image of each (count, H, W), the same for the seed."""

    def score(
        self, codes: NDArray[np.integer], images: NDArray[np.integer], *, seed: int
    ) -> dict[str, NDArray[np.float64]]:
        """Return scores per row for white-box audits; higher = more likely a member."""

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return all that a rebuilt generator needs, as named arrays."""

    def with_mechanisms(self, mechanisms: tuple[Mechanism, ...]) -> Self:
        """Return the same generator with the mechanisms that its manifest records."""


@runtime_checkable
class WithWarnings(Protocol):
    """A fitted generator that can say what its owner should know, from noised numbers alone."""

    def warnings(self) -> tuple[str, ...]:
        """Return sentences for the data owner; none if all is well."""


@runtime_checkable
class WithVisits(Protocol):
    """A fitted generator of tables that draws persons with several rows in order."""

    def sample_persons(
        self, count: int, *, seed: int
    ) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
        """Draw rows, person by person: codes (count, D) and whose they are (count,), from 0 on."""


@runtime_checkable
class WithGradients(Protocol):
    """A fitted generator that can also say how its training loss pulls at a record."""

    def gradients(
        self, images: NDArray[np.integer], labels: NDArray[np.integer], *, seed: int
    ) -> NDArray[np.float64]:
        """Return numbers about the gradient at each record (N, F), the first one its size."""


def gradient_features(
    fitted: Fitted, images: NDArray[np.integer], labels: NDArray[np.integer], *, seed: int
) -> NDArray[np.float64]:
    """Return what gradient attacks look at (N, F); F is 0 where a generator has no gradients."""
    if isinstance(fitted, WithGradients):
        return fitted.gradients(images, labels, seed=seed)
    return np.zeros((len(images), 0))


def joined(
    parts: Sequence[Mapping[str, NDArray[np.float64]]],
) -> dict[str, NDArray[np.float64]]:
    """Return scores of blocks of records as scores of all of them, by name."""
    names = parts[0] if parts else ()
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


class GeneratorModule(Protocol):
    """What `load` returns: the names that every generator module has."""

    Config: type[Any]
    STAGES: tuple[Stage, ...]

    def fit(
        self,
        records: TrainingRecords,
        config: Any,
        *,
        schema: DatasetSchema,
        run: Run,
        seed: int,
    ) -> Fitted:
        """Fit on the training arm, within what `run` has reserved."""

    def from_state(
        self, state: dict[str, NDArray[np.generic]], *, config: Any, schema: DatasetSchema
    ) -> Fitted:
        """Rebuild what `Fitted.state` wrote."""


def presets_of(module: GeneratorModule) -> dict[str, Preset]:
    """Return the presets that a generator declares."""
    return dict(getattr(module, "PRESETS", {}))


def suits_from(module: GeneratorModule) -> float | None:
    """Return the units × epsilon from which a generator is recommended, or None."""
    value: float | None = getattr(module, "SUITS_FROM", None)
    return value


def free_steps(module: GeneratorModule) -> dict[str, str]:
    """Return the Config fields that count steps of no mechanism -> the stage they report."""
    return dict(getattr(module, "FREE_STEPS", {}))


def modality_of(module: GeneratorModule) -> str:
    """Return what a generator makes: "image", or "table" where its module says so."""
    return str(getattr(module, "MODALITY", "image"))


def available(modality: str | None = None) -> tuple[str, ...]:
    """Return the names of all generators, in order; of one modality, if it is given.

    Raises: InvalidParameter for a modality that there is not.
    """
    names = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))
    if modality is None:
        return names
    if modality not in MODALITIES:
        raise InvalidParameter(
            f"Generators of {modality!r} were refused: choose one of {', '.join(MODALITIES)}."
        )
    return tuple(name for name in names if modality_of(load(name)) == modality)


def load(name: str) -> GeneratorModule:
    """Import one generator.

    Raises: InvalidParameter if there is none of that name, or if it does not keep the contract.
    """
    if name not in available():
        raise InvalidParameter(
            f"The generator {name!r} was refused: there is none of that name. "
            f"Choose one of {', '.join(available())}."
        )
    module = importlib.import_module(f"{__name__}.{name}")
    missing = missing_names(module)
    if missing:
        raise InvalidParameter(
            f"The generator {name!r} was refused: its module has no {', '.join(missing)}. "
            "See training/README.md, How to add a generator."
        )
    return cast("GeneratorModule", module)


def missing_names(module: ModuleType) -> tuple[str, ...]:
    """Return what a module lacks of the contract; a docstring counts as a name."""
    lacking = [name for name in _REQUIRED if not hasattr(module, name)]
    return tuple(lacking if (module.__doc__ or "").strip() else ["docstring", *lacking])
