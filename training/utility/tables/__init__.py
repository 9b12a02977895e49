"""What a synthetic table is good for, judged on persons whom its generator never saw.

`measure_table_utility` is the door. What comes out is measured on real records without noise: it
is not differentially private and stays with the data owner and the auditors.
"""

from training.utility.tables.document import TableUtility
from training.utility.tables.report import Effort, measure_table_utility

__all__ = ["Effort", "TableUtility", "measure_table_utility"]
