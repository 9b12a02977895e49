"""Fit one of our generators to a coded table, in a process of its own so that its memory is its own.

Usage: python -m benchmarks.table_fits METHOD FOLDER TARGET, with a folder as in `table_peers.py` and the
schema in the request. Imports here are few: what is loaded counts as memory of the generator.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from privacy import accounting
from privacy.mechanisms import PrivacyTarget, mechanisms_to_json
from privacy.planning import plan_mechanisms
from privacy.table_schema import TableSchema
from training import generators
from training.run import LocalRun
from training.table_records import TableRecords


def main(method: str, folder: Path, target: Path) -> None:
    """Plan, fit, draw, and write what it cost."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    schema = TableSchema.model_validate(request["schema"])
    records = TableRecords(
        codes=np.load(folder / "codes.npy", allow_pickle=False),
        persons=np.load(folder / "persons.npy", allow_pickle=False),
    )
    wanted = PrivacyTarget(epsilon=request["epsilon"], delta=request["delta"])
    module: Any = generators.load(method)
    config = module.Config(**request["settings"])
    base = peak_bytes()
    started, cpu = time.perf_counter(), time.process_time()
    mechanisms = plan_mechanisms(
        module.STAGES,
        config=config.model_dump(),
        target=wanted,
        public_train_count=schema.declared_count,
    )
    fitted = module.fit(
        records, config, schema=schema, run=LocalRun(mechanisms), seed=request["seed"]
    )
    done, done_cpu = time.perf_counter(), time.process_time()
    if schema.visits is not None and isinstance(fitted, generators.WithVisits):
        codes, persons = fitted.sample_persons(request["rows"], seed=request["seed"])
        np.save(folder / "synthetic_persons.npy", persons)
    else:
        codes = fitted.sample(request["rows"], seed=request["seed"])
    np.save(folder / "synthetic.npy", codes)
    spent = fitted.mechanisms or mechanisms
    found = {
        "version": "this tree",
        "config": config.model_dump(mode="json"),
        "mechanisms": mechanisms_to_json(spent),
        "epsilon_rederived": accounting.epsilon(spent, wanted.delta),
        "fit_seconds": done - started,
        "fit_cpu_seconds": done_cpu - cpu,
        "sample_seconds": time.perf_counter() - done,
        "sample_cpu_seconds": time.process_time() - done_cpu,
        "peak_bytes": peak_bytes(),
        "peak_bytes_before": base,  # of libraries and records alone
    }
    target.write_text(json.dumps(found), encoding="utf-8")


def peak_bytes() -> int:
    """Return the largest resident set of this program; `ru_maxrss` would count who started it."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    found = next(line for line in lines if line.startswith("VmHWM"))
    return 1024 * int(found.split()[1])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
