"""A table is fitted, drawn and stored without torch, which would take more memory than the fit."""

import subprocess
import sys

import pytest

FIT = """
import sys
import numpy as np
from privacy.mechanisms import PrivacyTarget
from privacy.planning import plan_mechanisms
from privacy.table_schema import Column, TableSchema
from training import artefact, generators
from training.run import LocalRun
from training.table_records import TableRecords

levels = ("a", "b", "c")
columns = tuple(Column(name=n, kind="category", levels=levels) for n in ("one", "two"))
schema = TableSchema(unit="record", declared_count=300, columns=columns)
codes = np.random.default_rng(0).integers(3, size=(300, 2)).astype(np.int16)
records = TableRecords(codes=codes, persons=np.arange(300))
target = PrivacyTarget(epsilon=5.0, delta=1e-5)
for name in sys.argv[1:]:
    module = generators.load(name)
    config = module.Config()
    mechanisms = plan_mechanisms(
        module.STAGES, config=config.model_dump(), target=target, public_train_count=300
    )
    fitted = module.fit(records, config, schema=schema, run=LocalRun(mechanisms), seed=0)
    fitted.sample(100, seed=0)
    fitted.score(codes, seed=0)
assert set(artefact.versions()) == {"torch", "numpy", "opacus"} and artefact.device() == "cpu"
"""
WORKER = "import workers.train, workers.sample, workers.modalities.tables, sys"
REPORT = "import training.utility.tables"


def loaded_by(code: str, *arguments: str) -> set[str]:
    """Run code in a fresh interpreter and return which of the heavy packages it has loaded."""
    heavy = ("torch", "opacus", "sklearn")
    code += f"\nimport sys; print(*(n for n in {heavy} if n in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_fits_of_tables_by_measured_counts_load_no_torch():
    assert loaded_by(FIT, "aim", "mst", "independent_columns") == set()


@pytest.mark.slow
def test_a_worker_that_trains_or_draws_tables_loads_neither_torch_nor_learners():
    assert loaded_by(WORKER) == set()


@pytest.mark.slow
def test_judging_a_table_loads_no_torch():
    assert loaded_by(REPORT) == {"sklearn"}
