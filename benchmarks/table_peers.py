"""Fit another project's synthesiser to a coded table; runs inside that project's own environment.

Usage: python table_peers.py METHOD FOLDER TARGET. The folder holds `codes.npy` and `request.json`; the
synthetic codes go to `synthetic.npy` in it. Every tool is told that all columns are categories with
public levels and spends nothing on learning them. It imports nothing of ours.
"""

import itertools
import json
import math
import resource
import sys
import time
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped,unused-ignore]

Request = dict[str, Any]
Draw = Callable[[], Any]


def _smartnoise(kind: str) -> Callable[[Any, Request], Draw]:
    """Return MST or AIM of smartnoise-synth."""

    def fit(frame: Any, request: Request) -> Draw:
        from snsynth import Synthesizer  # type: ignore[import-not-found] # noqa: PLC0415

        made = Synthesizer.create(kind, epsilon=request["epsilon"], delta=request["delta"])
        made.fit(frame, categorical_columns=list(frame.columns), preprocessor_eps=0.0)
        return lambda: made.sample(request["rows"])

    return fit


def _dpmm(kind: str) -> Callable[[Any, Request], Draw]:
    """Return MST or AIM of dpmm, without its own binning."""

    def fit(frame: Any, request: Request) -> Draw:
        from dpmm import pipelines  # type: ignore[import-not-found] # noqa: PLC0415

        made = getattr(pipelines, f"{kind}Pipeline")(
            epsilon=request["epsilon"], delta=request["delta"], disable_processing=True, n_jobs=1
        )
        sizes = dict(zip(frame.columns, request["sizes"], strict=True))
        made.fit(frame, domain=sizes, random_state=request["seed"])
        return lambda: made.generate(n_records=request["rows"])

    return fit


def mbi_mst(frame: Any, request: Request) -> Draw:
    """Measure all columns and a tree of pairs, and let mbi estimate and sample (MST's plan).

    The wheel holds inference only. A third of the budget each: columns, choice of the tree by the exponential
    mechanism, pairs (McKenna, Miklau and Sheldon 2021, arXiv:2108.04978). Floating-point noise.
    """
    from mbi import (  # type: ignore[import-not-found] # noqa: PLC0415
        Dataset,
        Domain,
        LinearMeasurement,
        estimation,
    )

    rng = np.random.default_rng(request["seed"])
    names = list(frame.columns)
    domain = Domain(tuple(names), tuple(request["sizes"]))
    data = Dataset({name: frame[name].to_numpy() for name in names}, domain)
    rho = _rho(request["epsilon"], request["delta"]) / 3

    def measured(cliques: list[tuple[str, ...]]) -> list[Any]:
        sigma = math.sqrt(len(cliques) / (2 * rho))
        exact = [np.asarray(data.project(clique).datavector()) for clique in cliques]
        return [
            LinearMeasurement(one + rng.normal(0, sigma, one.size), clique, stddev=sigma)
            for one, clique in zip(exact, cliques, strict=True)
        ]

    estimator = estimation.MirrorDescent()
    found = measured([(name,) for name in names])
    model = estimator.estimate(domain, found, iters=1000)
    share = {name: np.asarray(model.project((name,)).datavector()) for name in names}
    gains = {}
    for one, other in itertools.combinations(names, 2):
        expected = np.outer(share[one], share[other]).ravel() / share[one].sum()
        gains[one, other] = np.abs(expected - data.project((one, other)).datavector()).sum()
    pairs = _tree(names, gains, math.sqrt(8 * rho / (len(names) - 1)), rng)
    model = estimator.estimate(domain, found + measured(pairs), iters=1000)

    def draw() -> Any:
        made = model.synthetic_data(request["rows"]).to_dict()
        return pd.DataFrame({name: made[name] for name in names})

    return draw


def _tree(names: list[str], gains: dict[Any, float], epsilon: float, rng: Any) -> list[Any]:
    """Grow a spanning tree by the exponential mechanism; the sensitivity of a gain is 1."""
    part = {name: {name} for name in names}
    chosen = []
    for _ in range(len(names) - 1):
        open_pairs = [pair for pair in gains if part[pair[0]] is not part[pair[1]]]
        scores = np.array([gains[pair] for pair in open_pairs])
        chances = np.exp(epsilon / 2 * (scores - scores.max()))
        pair = open_pairs[rng.choice(len(open_pairs), p=chances / chances.sum())]
        chosen.append(pair)
        joined = part[pair[0]] | part[pair[1]]
        for name in joined:
            part[name] = joined
    return chosen


def _rho(epsilon: float, delta: float) -> float:
    """Return the zCDP that costs epsilon at delta (Canonne, Kamath and Steinke 2020, Prop. 12)."""

    def cost(rho: float) -> float:
        orders = 1 + np.logspace(-3, 4, 2000)
        logs = np.log1p(-1 / orders) - np.log(orders * delta) / (orders - 1)
        return float((orders * rho + logs).min())

    low, high = 0.0, epsilon
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) <= epsilon else (low, middle)
    return low


def mostlyai(frame: Any, request: Request) -> Draw:
    """Train MOSTLY AI's engine under DP-SGD until its own accountant has spent epsilon.

    It does not calibrate noise to a target; noise 2.0 and the size Medium are set by hand.
    """
    import tempfile  # noqa: PLC0415

    from mostlyai import engine  # type: ignore[import-not-found] # noqa: PLC0415

    folder = tempfile.mkdtemp(prefix="mostlyai-")
    words = frame.astype(str)
    engine.split(
        tgt_data=words,
        workspace_dir=folder,
        tgt_encoding_types=dict.fromkeys(frame.columns, "TABULAR_CATEGORICAL"),
    )
    engine.analyze(workspace_dir=folder, value_protection=False)
    engine.encode(workspace_dir=folder)
    engine.train(
        workspace_dir=folder,
        model="MOSTLY_AI/Medium",
        max_training_time=request["minutes"],
        differential_privacy={
            "max_epsilon": request["epsilon"],
            "delta": request["delta"],
            "noise_multiplier": 2.0,
        },
    )

    def draw() -> Any:
        engine.generate(workspace_dir=folder, sample_size=request["rows"])
        made = pd.read_parquet(Path(folder) / "SyntheticData")
        return made[list(frame.columns)].apply(pd.to_numeric, errors="coerce").fillna(0)

    return draw


# method -> (package whose version is told, how to fit)
METHODS: dict[str, tuple[str, Callable[[Any, Request], Draw]]] = {
    "smartnoise_mst": ("smartnoise-synth", _smartnoise("mst")),
    "smartnoise_aim": ("smartnoise-synth", _smartnoise("aim")),
    "dpmm_mst": ("dpmm", _dpmm("MST")),
    "dpmm_aim": ("dpmm", _dpmm("AIM")),
    "mbi_mst": ("mbi", mbi_mst),
    "mostlyai": ("mostlyai-engine", mostlyai),
}


def main(method: str, folder: Path, target: Path) -> None:
    """Fit, draw, and write what it cost."""
    warnings.simplefilter("ignore")
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    codes = np.load(folder / "codes.npy", allow_pickle=False)
    names = [f"c{index}" for index in range(codes.shape[1])]
    frame = pd.DataFrame(codes.astype(np.int64), columns=names)
    package, fit = METHODS[method]
    started, cpu = time.perf_counter(), time.process_time()
    draw = fit(frame, request)
    fitted, fitted_cpu = time.perf_counter(), time.process_time()
    made = np.asarray(draw()[names]).astype(np.int64)
    sizes = np.asarray(request["sizes"])
    np.save(folder / "synthetic.npy", np.clip(made, 0, sizes - 1).astype(np.int16))
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {
        "version": metadata.version(package),
        "fit_seconds": fitted - started,
        "fit_cpu_seconds": fitted_cpu - cpu + children.ru_utime + children.ru_stime,
        "sample_seconds": time.perf_counter() - fitted,
        "sample_cpu_seconds": time.process_time() - fitted_cpu,
        "peak_bytes": _peak_bytes(),
        "outside_of_domain": int(((made < 0) | (made >= sizes)).sum()),
    }
    target.write_text(json.dumps(found), encoding="utf-8")


def _peak_bytes() -> int:
    """Return the largest resident set of this program; `ru_maxrss` would count who started it."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    found = next(line for line in lines if line.startswith("VmHWM"))
    return 1024 * int(found.split()[1])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
