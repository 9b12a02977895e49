"""How far a reader study's figure may be off when its readers *and* its cases are samples.

Two estimates, each with the standard error and the degrees of freedom of Student's t:

- `u_statistic`: the one-shot estimate (Gallas 2006, Acad Radiol 13, 353; Gallas, Bandos, Samuelson and
  Wagner 2009, Commun Stat A 38, 2586). Its moments count who and what two comparisons have in common,
  so a design need not be fully crossed. Unbiased for the variance.
- `obuchowski_rockette`: reader mean square and jackknifed covariance between readers (Obuchowski and
  Rockette 1995), with the degrees of freedom of Hillis 2007, Stat Med 26, 596. Fully crossed designs.

Nothing here treats answers as independent draws: two readers of one case answer alike, and one reader
leans one way. A binomial test of the pooled answers forgets both and is far too sure of itself.
"""

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from privacy.errors import InvalidParameter

Floats = NDArray[np.float64]
LEAST_READERS = 2
"""One reader says nothing of how readers differ."""


@dataclass(frozen=True)
class Estimate:
    """A figure averaged over readers. `freedom` may be infinite; `method` says where it is from."""

    value: float
    standard_error: float
    freedom: float
    readers: int
    method: str

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the two-sided interval of Student's t at `level`, a probability."""
        if not 0 < level < 1:
            raise InvalidParameter(f"An interval of level {level} was refused: choose 0 to 1.")
        half = float(stats.t.ppf((1 + level) / 2, self.freedom)) * self.standard_error
        return self.value - half, self.value + half


@dataclass(frozen=True)
class Components:
    """Obuchowski and Rockette's terms of one condition, as their programs print them."""

    reader_mean_square: float
    variance: float
    covariance: float


def auc_kernel(real: ArrayLike, synthetic: ArrayLike) -> Floats:
    """Return 1 where a real case is rated above a synthetic one, .5 for a tie, NaN if unread.

    Shapes: real (readers, real cases), synthetic (readers, synthetic cases), both with NaN where a
    reader did not read a case -> (readers, real cases, synthetic cases).
    """
    above = np.asarray(real, np.float64)[:, :, None]
    below = np.asarray(synthetic, np.float64)[:, None, :]
    kernel = (above > below) + 0.5 * (above == below)
    return np.where(np.isnan(above) | np.isnan(below), np.nan, kernel)


def accuracy_kernel(real_correct: ArrayLike, synthetic_correct: ArrayLike) -> Floats:
    """Return the mean of two answers' correctness: its average is the balanced share correct.

    Shapes as in `auc_kernel`; values 0, 1 or NaN.
    """
    real = np.asarray(real_correct, np.float64)[:, :, None]
    synthetic = np.asarray(synthetic_correct, np.float64)[:, None, :]
    kernel: Floats = (real + synthetic) / 2
    return kernel


def u_statistic(kernel: ArrayLike) -> Estimate:
    """Return the mean of a kernel and its one-shot variance; axis 0 is readers, the rest are cases.

    Shapes: (readers, cases) or (readers, real cases, synthetic cases), NaN where nothing was read.
    var(mean) = sum over what two entries share of (their share of all pairs) x (mean product), less
    the squared mean, which is estimated from pairs that share nothing.
    """
    values = np.asarray(kernel, np.float64)
    seen = ~np.isnan(values)
    _check_design(seen)
    filled = np.where(seen, values, 0.0)
    mean = float(filled.sum() / seen.sum())
    between = _between_readers(filled, seen, mean)
    variance = max(one_shot_variance(values), between)  # as max(Cov2, 0) of Obuchowski and Rockette
    return _estimate(mean, variance, between, readers=len(values), method="U-statistics")


def one_shot_variance(kernel: ArrayLike) -> float:
    """Return the unbiased variance of a kernel's mean; a small study's may come out below zero."""
    values = np.asarray(kernel, np.float64)
    seen = ~np.isnan(values)
    products = _by_what_is_shared(np.where(seen, values, 0.0))
    counts = _by_what_is_shared(seen.astype(np.float64))
    nothing = frozenset[int]()
    if counts[nothing] < 0.5:
        raise InvalidParameter(
            "The readers' answers were refused: no two of them differ in reader and cases, so no "
            "variance can be estimated. Let at least two readers read at least two cases of a class."
        )
    apart = products[nothing] / counts[nothing]
    return sum(
        counts[shared] / float(seen.sum()) ** 2 * (products[shared] / counts[shared] - apart)
        for shared in counts
        if counts[shared] > 0.5
    )


def obuchowski_rockette(kernel: ArrayLike) -> Estimate:
    """Return the mean of a fully crossed kernel with jackknifed covariances.  Raises: InvalidParameter."""
    components = jackknife_components(kernel)
    values = np.asarray(kernel, np.float64)
    return from_components(float(values.mean()), components, readers=len(values))


def jackknife_components(kernel: ArrayLike) -> Components:
    """Return reader mean square, error variance and covariance between readers of one condition."""
    values = np.asarray(kernel, np.float64)
    _check_design(~np.isnan(values))
    if np.isnan(values).any():
        raise InvalidParameter(
            "The Obuchowski-Rockette analysis was refused: not every reader read every case. "
            "Use the U-statistics, which need no full crossing."
        )
    covariance = jackknife_covariance(values)
    readers = len(values)
    figures = values.reshape(readers, -1).mean(axis=1)
    off = covariance[~np.eye(readers, dtype=np.bool_)]
    return Components(
        reader_mean_square=float(figures.var(ddof=1)),
        variance=float(np.diag(covariance).mean()),
        covariance=float(off.mean()),
    )


def jackknife_covariance(values: Floats) -> Floats:
    """Return the covariance of readers' means when cases are left out one by one, (readers, readers)."""
    left_out = [
        np.delete(values, case, axis=axis).reshape(len(values), -1).mean(axis=1)
        for axis in range(1, values.ndim)
        for case in range(values.shape[axis])
    ]
    folds = np.stack(left_out, axis=1)
    apart = folds - folds.mean(axis=1, keepdims=True)
    count = folds.shape[1]
    covariance: Floats = (count - 1) / count * apart @ apart.T
    return covariance


def from_components(value: float, components: Components, *, readers: int) -> Estimate:
    """Return the estimate that Obuchowski and Rockette's terms of one condition stand for."""
    between = components.reader_mean_square / readers
    variance = between + max(components.covariance, 0.0)
    return _estimate(value, variance, between, readers=readers, method="Obuchowski-Rockette")


def difference(first: ArrayLike, second: ArrayLike) -> Estimate:
    """Return the mean difference of two kernels of the same readers and cases, readers random.

    The same as one condition whose entries are differences: MS(T x R), Cov2 - Cov3 and Hillis's
    degrees of freedom follow.  Raises: InvalidParameter unless both are fully crossed.
    """
    return obuchowski_rockette(np.asarray(first, np.float64) - np.asarray(second, np.float64))


def pooled_binomial_interval(
    successes: int, trials: int, *, level: float = 0.95
) -> tuple[float, float]:
    """Return the exact binomial interval of pooled answers: shown only to say how wrong it is."""
    found = stats.binomtest(successes, trials).proportion_ci(confidence_level=level)
    return float(found.low), float(found.high)


def _estimate(
    value: float, variance: float, between: float, *, readers: int, method: str
) -> Estimate:
    """Hillis 2007, `ddf_H` of a single condition: only the reader mean square is uncertain."""
    freedom = math.inf if between <= 0 else (readers - 1) * (variance / between) ** 2
    return Estimate(value, math.sqrt(max(variance, 0.0)), freedom, readers, method)


def _between_readers(filled: Floats, seen: NDArray[np.bool_], mean: float) -> float:
    """Return the part of the variance that comes of readers differing: their mean square / readers.

    With unequal loads readers weigh as many comparisons as they made.
    """
    readers = len(filled)
    loads = seen.reshape(readers, -1).sum(axis=1)
    own = filled.reshape(readers, -1).sum(axis=1) / loads
    weights = loads / loads.sum()
    return float((weights**2 * (own - mean) ** 2).sum() * readers / (readers - 1))


def _by_what_is_shared(values: Floats) -> dict[frozenset[int], float]:
    """Return sums of products of two entries, by the axes in which they agree *exactly*."""
    axes = range(values.ndim)
    subsets = [frozenset(chosen) for size in axes for chosen in combinations(axes, size)]
    subsets.append(frozenset(axes))
    at_least = {
        shared: float((values.sum(axis=tuple(sorted(set(axes) - shared))) ** 2).sum())
        for shared in subsets
    }
    return {
        shared: sum(
            (-1) ** (len(other) - len(shared)) * at_least[other]
            for other in subsets
            if other >= shared
        )
        for shared in subsets
    }


def _check_design(seen: NDArray[np.bool_]) -> None:
    if seen.ndim not in {2, 3}:
        raise InvalidParameter(
            f"The readers' answers were refused: they have {seen.ndim} axes; 2 or 3 are needed."
        )
    if len(seen) < LEAST_READERS:
        raise InvalidParameter(
            f"The readers' answers were refused: {len(seen)} reader, at least {LEAST_READERS} are "
            "needed to say how readers differ."
        )
    if not seen.reshape(len(seen), -1).any(axis=1).all():
        raise InvalidParameter(
            "The readers' answers were refused: one reader has none that can be compared. "
            "Leave that reader out."
        )
