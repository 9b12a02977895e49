"""Make procedural knee radiographs of persons who do not exist: public data to try Kaima on.

`make_cohort` returns the knees of persons, two each; `batch` returns loose knees by the thousand,
for a warm start on public pictures:

    images, grades = phantoms.batch(5000, pixels=(64, 64), rng=np.random.default_rng(0))

Both take a `Prior`: `PUBLISHED` anatomy, an exaggerated one, or your own. `python -m
training.phantoms` writes the zip that a data owner would upload. Phantoms look like a schematic
frontal knee; they are no evidence about real knees.
"""

from training.phantoms.batch import batch
from training.phantoms.cohort import Cohort, make_cohort
from training.phantoms.parameters import GRADES, PARAMETERS, Knees
from training.phantoms.prior import EMPHASISED, PUBLISHED, Prior, Spread, emphasised

__all__ = [
    "EMPHASISED",
    "GRADES",
    "PARAMETERS",
    "PUBLISHED",
    "Cohort",
    "Knees",
    "Prior",
    "Spread",
    "batch",
    "emphasised",
    "make_cohort",
]
