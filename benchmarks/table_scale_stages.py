"""One stage of `table_scale`, in a process of its own.

Usage: python -m benchmarks.table_scale_stages STAGE FOLDER TARGET. The stages hand over files in the folder, as
the service's jobs hand over blobs.
"""

import json
import secrets
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.table_fits import peak_bytes
from privacy import inclusion
from privacy.evidence import Arm, Evidence
from privacy.mechanisms import PrivacyTarget
from privacy.planning import plan_mechanisms
from privacy.table_schema import TableSchema
from privacy.table_values import comparable, values_of
from training import generators
from training.run import LocalRun
from training.table_records import TableRecords

_IN_TRAINING = (Arm.TRAIN, Arm.AUDIT_IN)
_SCORED = (Arm.AUDIT_IN, Arm.AUDIT_OUT, Arm.REFERENCE_B)
_DELTA = 1e-8  # below a tenth of one over ten million persons


def ingest(folder: Path, _request: dict[str, Any], schema: TableSchema) -> dict[str, Any]:
    """Read the CSV as an upload, and draw arms as a job does."""
    from workers.intake.tables import read_table_upload  # noqa: PLC0415 - only this stage loads it

    read = read_table_upload(
        folder / "table.csv", schema=schema, tenant_key=b"benchmark", out=folder / "blobs"
    )
    digests = np.load(folder / "blobs" / "person_digests.npy")
    run_key = secrets.token_bytes(32)
    arms = inclusion.assign_arms(
        digests,
        reference_key=secrets.token_bytes(32),
        run_key=run_key,
        rates=inclusion.rates_for(schema.declared_count),
    )
    np.save(folder / "arms.npy", arms)
    np.save(folder / "folds.npy", inclusion.assign_folds(digests, run_key=run_key))
    return {"persons": read.person_count}


def fit(folder: Path, request: dict[str, Any], schema: TableSchema) -> dict[str, Any]:
    """Fit the generator to the trained-on persons, and store its state."""
    persons = _blob(folder, "persons")
    rows = np.flatnonzero(np.isin(np.load(folder / "arms.npy"), _IN_TRAINING)[persons])
    codes = schema.codes_of(_blob(folder, "table")[rows])
    own = np.unique(persons[rows], return_inverse=True)[1].reshape(-1)
    module: Any = generators.load(request["method"])
    config = module.Config()
    mechanisms = plan_mechanisms(
        module.STAGES,
        config=config.model_dump(),
        target=PrivacyTarget(epsilon=request["epsilon"], delta=_DELTA),
        public_train_count=schema.declared_count,
    )
    fitted = module.fit(
        TableRecords(codes=codes, persons=own),
        config,
        schema=schema,
        run=LocalRun(mechanisms),
        seed=request["seed"],
    )
    np.savez(folder / "state.npz", **fitted.state())
    return {"trained_rows": len(rows)}


def sample(folder: Path, request: dict[str, Any], schema: TableSchema) -> dict[str, Any]:
    """Draw as many rows as there are, and their values."""
    codes = _fitted(folder, request, schema).sample(request["rows"], seed=request["seed"])
    values = values_of(codes, schema, np.random.default_rng(request["seed"]))
    np.save(folder / "synthetic.npy", values[: request["audit_samples"]])
    return {"rows_drawn": len(values)}


def audit(folder: Path, request: dict[str, Any], schema: TableSchema) -> dict[str, Any]:
    """Score the pool and run the quick battery on the first synthetic rows."""
    from privacy.audits import run_battery  # noqa: PLC0415
    from privacy.policy import Depth, load_policy  # noqa: PLC0415
    from privacy.report import GateStatus  # noqa: PLC0415

    table, persons = _blob(folder, "table"), _blob(folder, "persons")
    arms, samples = np.load(folder / "arms.npy"), np.load(folder / "synthetic.npy")
    pool = np.flatnonzero(np.isin(arms, _SCORED)[persons])
    fitted = _fitted(folder, request, schema)
    scores = fitted.score(schema.codes_of(table[pool]), seed=request["seed"])
    target = schema.targets[0]
    evidence = Evidence(
        modality="table",
        unit=schema.unit,
        records=comparable(table, schema),
        labels=schema.columns[target].codes_of(np.asarray(table[:, target])).astype(np.int64),
        persons=persons,
        arms=arms,
        folds=np.load(folder / "folds.npy"),
        excluded=_blob(folder, "duplicated_persons"),
        samples=comparable(samples, schema),
        sample_labels=schema.columns[target].codes_of(samples[:, target]).astype(np.int64),
        target=PrivacyTarget(epsilon=request["epsilon"], delta=_DELTA),
        record_scores={name: _spread(one, pool, len(table)) for name, one in scores.items()},
        targets=schema.targets,
        quasi_identifiers=schema.quasi_identifiers,
    )
    report = run_battery(
        evidence,
        policy=load_policy(),
        tier="registered",
        attempt=1,
        rng=np.random.default_rng(request["seed"]),
        depth=Depth.QUICK,
    )
    return {
        "verdict": report.verdict.value,
        "verdict_reason": report.verdict_reason,
        "limits_of_detection": {one.leak: one.fraction for one in report.limit_of_detection},
        "not_passed": [
            gate.name
            for gate in report.gates
            if gate.status in (GateStatus.FAIL, GateStatus.INCONCLUSIVE)
        ],
        "accused": any(
            gate.name == "near_copy_test" and gate.status is GateStatus.FAIL
            for gate in report.gates
        ),
    }


def _blob(folder: Path, name: str) -> NDArray[Any]:
    found: NDArray[Any] = np.load(folder / "blobs" / f"{name}.npy", mmap_mode="r")
    return found


def _fitted(folder: Path, request: dict[str, Any], schema: TableSchema) -> Any:
    module: Any = generators.load(request["method"])
    with np.load(folder / "state.npz", allow_pickle=False) as arrays:
        return module.from_state(dict(arrays), config=module.Config(), schema=schema)


def _spread(values: NDArray[np.floating], rows: NDArray[np.integer], count: int) -> Any:
    whole = np.full(count, np.nan)
    whole[rows] = values
    return whole


STAGES = {"ingest": ingest, "fit": fit, "sample": sample, "audit": audit}


def main(stage: str, folder: Path, target: Path) -> None:
    """Run one stage and write what it cost."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    declared = json.loads((folder / "schema.json").read_text(encoding="utf-8"))
    schema = TableSchema.model_validate(declared)
    started, cpu = time.perf_counter(), time.process_time()
    found = STAGES[stage](folder, request, schema)
    found |= {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
        "peak_bytes": peak_bytes(),
    }
    target.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
