"""Utility that can be believed: classifiers taught on synthetic images, judged on real held-out ones.

`score` is the door. Every value that comes out of this package is measured on real records without
noise: it is not differentially private and stays with the data owner and the auditors.
"""

from training.utility.material import Labelled, Task
from training.utility.scoring import Scored, score

__all__ = ["Labelled", "Scored", "Task", "score"]
