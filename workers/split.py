"""Who is a member: the arms and folds of one training job, drawn again from their keys.

Nothing about the split is stored: arms follow from the keys and the person's digest, and the salted
commitment in the trail (`operations.jobs.request_training`) pins keys, plan and policy beforehand.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy import inclusion
from privacy.evidence import Arm
from service.domain.jobs import Job
from service.wiring import Application

IN_TRAINING = (Arm.TRAIN, Arm.AUDIT_IN)


@dataclass(frozen=True)
class Split:
    """Shapes: arms (persons,) of `privacy.evidence.Arm`, folds (persons,) 1 or 2."""

    arms: NDArray[np.integer]
    folds: NDArray[np.integer]

    @property
    def trained_on(self) -> NDArray[np.bool_]:
        """Return which persons the generator may see, shape (persons,)."""
        return np.isin(self.arms, IN_TRAINING)


def draw_split(
    application: Application,
    training: Job,
    *,
    cohort_id: str,
    person_digests: NDArray[np.uint8],
) -> Split:
    """Draw arms and folds of every person, each independently of all others."""
    rates = inclusion.Rates(**training.payload["rates"])
    run_key = application.keys.run_key(training.id)
    digests = np.asarray(person_digests)
    arms = inclusion.assign_arms(
        digests,
        reference_key=application.keys.reference_key(cohort_id),
        run_key=run_key,
        rates=rates,
    )
    folds = inclusion.assign_folds(digests, run_key=run_key)
    return Split(arms=arms, folds=folds)
