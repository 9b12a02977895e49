"""Scores calibrated by reference models: how much better does this model know a record than others do?

Reference models saw none of the persons that are scored, so a record that any model finds easy is no
longer taken for a member. *lira* is the deviation from the reference models' scores in units of their
spread (Carlini et al. 2022, arXiv:2112.03570, offline: only models without the record). *rmia* is how often
the record's ratio of scores beats that of population records (Zarifzadeh et al. 2024, arXiv:2312.03262,
offline; a ratio of likelihoods is a difference of scores). Both are monotone per record, look at no
coin, and are declared attacks like any other.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter

Floats = NDArray[np.floating]

FEWEST_MODELS = 2


def calibrated_scores(
    target: Mapping[str, Floats],
    references: Mapping[str, Floats],
    *,
    population: NDArray[np.integer],
) -> dict[str, Floats]:
    """Return `lira_NAME` and `rmia_NAME` for every attack that both have.

    Shapes: target (records,), references (models, records); `population` lists records of persons who
    were in no model, neither the target nor the references. Records where a score is not finite stay so.
    Raises: InvalidParameter for fewer than two models, or without population records.
    """
    calibrated: dict[str, Floats] = {}
    for name in sorted(set(target) & set(references)):
        others = np.asarray(references[name], dtype=np.float64)
        if len(others) < FEWEST_MODELS or not len(population):
            raise InvalidParameter(
                f"Calibrating {name} was refused: {len(others)} reference models and "
                f"{len(population)} population records were given; "
                f"{FEWEST_MODELS} models and a record are needed."
            )
        margin = np.asarray(target[name], dtype=np.float64) - others.mean(axis=0)
        calibrated[f"lira_{name}"] = margin / _spread(others)
        calibrated[f"rmia_{name}"] = _share_beaten(margin, margin[population])
    return calibrated


def _spread(others: Floats) -> Floats:
    """Return each record's deviation over models, drawn halfway to the typical one.

    A handful of models says little about one record; their average over records says much.
    """
    own = others.var(axis=0, ddof=1)
    typical = float(np.nanmean(own))
    return np.asarray(np.sqrt((own + typical) / 2 + np.finfo(np.float64).tiny))


def _share_beaten(margin: Floats, population: Floats) -> Floats:
    """Return the share of population records with a smaller margin, ties by half.

    The margin itself, squeezed far below one rank, keeps order where nobody or everybody is beaten.
    """
    known = np.sort(population[np.isfinite(population)])
    below = np.searchsorted(known, margin, side="left") + np.searchsorted(
        known, margin, side="right"
    )
    share = below / (2 * max(1, len(known)))
    return np.asarray(np.where(np.isfinite(margin), share + 1e-9 * np.tanh(margin), np.nan))
