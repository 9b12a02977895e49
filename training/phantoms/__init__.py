"""Make procedural knee radiographs of persons who do not exist: public data to try Kaima on.

`make_cohort` returns arrays; `python -m training.phantoms` writes the zip that a data owner would
upload. Phantoms look like a schematic frontal knee; they are no evidence about real knees.
"""

from training.phantoms.anatomy import GRADES, Knees
from training.phantoms.cohort import Cohort, make_cohort

__all__ = ["GRADES", "Cohort", "Knees", "make_cohort"]
