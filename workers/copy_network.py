"""Hand the audit a copy embedding, learnt on pictures of reference half a and nobody else's.

Those persons were held out of training and are never scored, so that what the network knows of them tells
nothing of who was trained on. It is made for one audit and never kept.
"""

from dataclasses import replace

import numpy as np

from privacy.embedding import FEWEST_PICTURES
from privacy.evidence import Arm, Evidence
from training.copy_embedding import STEPS, Progress, learn_copy_network


def with_copy_network(
    evidence: Evidence, *, seed: int, steps: int = STEPS, progress: Progress | None = None
) -> Evidence:
    """Return the evidence with a copy embedding, or with the reason why there is none."""
    if evidence.modality != "image":
        return evidence
    in_half_a = (evidence.arms == Arm.REFERENCE_A) & ~np.asarray(evidence.excluded)
    rows = np.flatnonzero(in_half_a[np.asarray(evidence.persons)])
    if len(rows) < FEWEST_PICTURES:
        reason = (
            f"reference half a holds {len(rows)} pictures; a copy embedding needs {FEWEST_PICTURES}"
        )
        return replace(evidence, no_copy_network=reason)
    images = np.asarray(evidence.records)[rows]
    network = learn_copy_network(images, seed=seed, steps=steps, progress=progress)
    return replace(evidence, copy_network=network)
