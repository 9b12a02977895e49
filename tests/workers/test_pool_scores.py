"""Only the pool is asked about, and gradients at few records of each person."""

import numpy as np

from workers.pool_scores import first_of_each


def test_at_most_so_many_records_of_each_person_are_taken():
    persons = np.array([3, 1, 3, 3, 2, 1, 3])
    taken = first_of_each(persons, 2)
    assert taken.tolist() == [0, 1, 2, 4, 5]
    assert first_of_each(persons[:0], 2).tolist() == []
