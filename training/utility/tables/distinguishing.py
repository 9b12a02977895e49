"""Tell synthetic rows from real held-out ones with a classifier (C2ST).

Lopez-Paz and Oquab 2017, arXiv:1610.06545.
An AUC of 0.5 means that boosted trees cannot; 1 that every row gives itself away. Each half of
the persons is judged by trees taught on the other half.
"""

import numpy as np
from sklearn.metrics import roc_auc_score

from privacy.table_schema import TableSchema
from training.utility.tables.learning import Score, trees
from training.utility.tables.material import Rows, divided, judging_seed

_FEWEST_PERSONS = 40


def told_apart(
    synthetic: Rows, real: Rows, *, schema: TableSchema, most_rows: int = 10_000, seed: int = 0
) -> Score:
    """Return the AUC with which rows are told apart; as many of either kind are used."""
    most = min(len(synthetic), len(real), most_rows)
    made, held = synthetic.at_most(most, seed=seed), real.at_most(most, seed=seed + 1)
    if min(made.count, held.count) < _FEWEST_PERSONS:
        reason = f"fewer than {_FEWEST_PERSONS} persons or synthetic rows"
        return Score(value=None, reason=reason)
    codes = np.concatenate([made.codes, held.codes])
    is_real = np.repeat([0, 1], [len(made), len(held)])
    persons = np.concatenate([made.persons, held.persons + made.count])
    halves = divided(persons, share=0.5, seed=judging_seed(seed))
    everything = tuple(range(len(schema.columns)))
    chances = np.empty(len(codes))
    for learnt, judged in (halves, halves[::-1]):
        model = trees(schema, everything, seed=seed, is_number=False)
        model.fit(codes[learnt], is_real[learnt])
        chances[judged] = model.predict_proba(codes[judged])[:, 1]
    areas = [float(roc_auc_score(is_real[half], chances[half])) for half in halves]
    return Score(value=float(np.mean(areas)))
