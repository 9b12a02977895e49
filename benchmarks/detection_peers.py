"""Run another tool on sets that `detection` wrote; runs inside that tool's own environment.

Usage: python detection_peers.py TOOL FOLDER SECONDS TARGET. One value per set, higher means more risk; no
set is begun after SECONDS.
"""

import json
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped,unused-ignore]

Frames = tuple[Any, Any, Any]


def anonymeter(frames: Frames) -> float:
    """Return the highest lower bound of its risks, each at 99 % over three attacks (Bonferroni)."""
    from anonymeter.evaluators import (  # type: ignore[import-not-found] # noqa: PLC0415
        LinkabilityEvaluator,
        SinglingOutEvaluator,
    )

    members, holdout, samples = frames
    level = 1 - 2 * 0.01 / 3  # two-sided intervals
    columns = list(members.columns)
    half = len(columns) // 2
    bounds = []
    for mode in ("univariate", "multivariate"):
        attempts = 300 if mode == "univariate" else 100  # several columns take long to guess
        attack = SinglingOutEvaluator(
            ori=members, syn=samples, control=holdout, n_attacks=attempts, max_attempts=100_000
        )
        attack.evaluate(mode=mode)
        bounds.append(attack.risk(confidence_level=level).ci[0])
    link = LinkabilityEvaluator(
        ori=members,
        syn=samples,
        control=holdout,
        n_attacks=len(holdout),
        n_neighbors=5,
        aux_cols=(columns[:half], columns[half:]),
    )
    link.evaluate(n_jobs=1)
    bounds.append(link.risk(confidence_level=level).ci[0])
    return float(max(bounds))


def sdmetrics(frames: Frames) -> float:
    """Return the share of samples nearer to members than to held-out rows."""
    from sdmetrics.single_table import (  # type: ignore[import-not-found] # noqa: PLC0415
        DCROverfittingProtection,
    )

    members, holdout, samples = frames
    columns = {name: {"sdtype": "numerical"} for name in members.columns}
    found = DCROverfittingProtection.compute_breakdown(
        members,
        samples,
        holdout,
        metadata={"tables": {"table": {"columns": columns}}},
        table_name="table",
    )
    return float(found["synthetic_data_percentages"]["closer_to_training"])


def syntheval(frames: Frames) -> float:
    """Return the macro F1 score of its membership classifier."""
    from syntheval import SynthEval  # type: ignore[import-not-found] # noqa: PLC0415

    members, holdout, samples = frames
    judge = SynthEval(
        members, holdout, cat_cols=[], verbose=False, console="off", enable_plots=False
    )
    found = judge.evaluate(samples, mia={"num_eval_iter": 5})
    rows = found.set_index("metric") if "metric" in found else found
    return float(rows.loc[next(name for name in rows.index if "mia" in str(name).lower()), "val"])


def mostlyai_qa(frames: Frames) -> float:
    """Return the share of samples nearer to members than to held-out rows (its DCR share)."""
    from mostlyai import qa  # type: ignore[import-not-found] # noqa: PLC0415

    members, holdout, samples = frames
    with tempfile.TemporaryDirectory() as folder:
        _, found = qa.report(
            syn_tgt_data=samples,
            trn_tgt_data=members,
            hol_tgt_data=holdout,
            report_path=str(Path(folder) / "report.html"),
        )
    return float(found.distances.dcr_share)


# tool -> how to run it, and the threshold of its own where it has one
TOOLS: dict[str, tuple[Callable[[Frames], float], float | None]] = {
    "anonymeter": (anonymeter, 0.0),
    "sdmetrics": (sdmetrics, None),
    "syntheval": (syntheval, None),
    "mostlyai-qa": (mostlyai_qa, None),
}


def main(tool: str, folder: Path, limit: float, target: Path) -> None:
    """Measure the sets of the folder, in order, for as long as the limit allows."""
    warnings.simplefilter("ignore")
    run, threshold = TOOLS[tool]
    told = json.loads((folder / "columns.json").read_text(encoding="utf-8"))
    values: list[float] = []
    seconds: list[float] = []
    for number in range(told["cases"]):
        if sum(seconds) > limit:
            break
        with np.load(folder / f"{number}.npz", allow_pickle=False) as arrays:
            members, holdout, samples = (
                pd.DataFrame(arrays[name], columns=told["columns"])
                for name in ("members", "holdout", "samples")
            )
        started = time.perf_counter()
        values.append(run((members, holdout, samples)))
        seconds.append(time.perf_counter() - started)
    found = {
        "version": metadata.version(tool),
        "threshold": threshold,
        "values": values,
        "seconds": seconds,
        "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }
    target.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4]))
