"""A small ridge logistic regression, for attacks that learn: numpy and scipy, no options to tune.

Features are standardised by the rows that it learns from. The penalty is fixed, so that nothing is
chosen by looking at results.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from privacy.errors import InvalidParameter

Floats = NDArray[np.floating]

RIDGE = 10.0


@dataclass(frozen=True)
class Logistic:
    """A fitted regression: standardise, weigh, add. Shapes: centre, spread, weights (features,)."""

    centre: Floats
    spread: Floats
    weights: Floats
    intercept: float

    def logits(self, features: Floats) -> Floats:
        """Return log-odds of target 1. Shapes: (rows, features) -> (rows,)."""
        return np.asarray((features - self.centre) / self.spread @ self.weights + self.intercept)


def fit_logistic(
    features: Floats, targets: NDArray[np.integer], *, ridge: float = RIDGE
) -> Logistic:
    """Fit targets 0 or 1 (rows,) to features (rows, features).

    Minimises the summed log-loss plus `ridge`/2 times the squared weights (standardised features;
    the intercept is free), which is convex: Hastie, Tibshirani and Friedman 2009, section 4.4.
    Raises: InvalidParameter where a target is missing or a feature is not finite.
    """
    if len(np.unique(targets)) < 2 or not np.isfinite(features).all():
        raise InvalidParameter(
            f"A regression on {len(targets)} rows was refused: it needs finite features and rows of "
            "both targets."
        )
    centre, spread = features.mean(axis=0), features.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    rows = (features - centre) / spread
    sign = 2.0 * np.asarray(targets) - 1.0

    def objective(parameters: Floats) -> tuple[float, Floats]:
        weights, intercept = parameters[:-1], parameters[-1]
        margins = sign * (rows @ weights + intercept)
        slope = -sign * special.expit(-margins)
        value = float(np.logaddexp(0, -margins).sum() + ridge / 2 * weights @ weights)
        return value, np.append(rows.T @ slope + ridge * weights, slope.sum())

    found = optimize.minimize(
        objective,
        np.zeros(rows.shape[1] + 1),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 500},
    )
    return Logistic(centre, spread, found.x[:-1], float(found.x[-1]))
