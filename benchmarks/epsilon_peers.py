"""Runs in the peers' own environment: the same scores, their bounds. Called with IN.npz OUT.json.

It imports nothing of ours. Modules are loaded by their path, because their packages would load jax or
torch, which these functions do not use.
"""

import importlib.util
import json
import sys
import time
import types
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

_ERROR = 0.05
Bound = Callable[[Any, Any, dict[str, Any]], float]


def _package(name: str) -> Path:
    """Return the folder of an installed package without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"{name} is not installed")
    return Path(next(iter(spec.submodule_search_locations)))


def _jax_privacy() -> Iterator[tuple[str, str, Bound]]:
    """Yield jax-privacy's bounds: every threshold with its own correction, or the declared one."""
    path = _package("jax_privacy") / "auditing.py"
    spec = importlib.util.spec_from_file_location("jax_privacy_auditing", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} of jax-privacy cannot be loaded")
    theirs = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = theirs
    spec.loader.exec_module(theirs)

    def strategy(case: dict[str, Any]) -> Any:
        two_valued = case["mechanism"] == "randomised_response"
        return theirs.Explicit(case["threshold"]) if two_valued else theirs.Bonferroni()

    def bound(method: str) -> Bound:
        def run(inside: Any, outside: Any, case: dict[str, Any]) -> float:
            auditor = theirs.CanaryScoreAuditor(inside, outside)
            return float(
                getattr(auditor, method)(_ERROR, case["delta"], threshold_strategy=strategy(case))
            )

        return run

    def explicit(method: str) -> Bound:
        def run(inside: Any, outside: Any, case: dict[str, Any]) -> float:
            auditor = theirs.CanaryScoreAuditor(inside, outside)
            fixed = theirs.Explicit(case["threshold"])
            both = {"one_sided": False} if method == "epsilon_clopper_pearson" else {}
            return float(
                getattr(auditor, method)(_ERROR, case["delta"], threshold_strategy=fixed, **both)
            )

        return run

    def gdp(inside: Any, outside: Any, case: dict[str, Any]) -> float:
        return float(
            theirs.CanaryScoreAuditor(inside, outside).epsilon_from_gdp(_ERROR, case["delta"])
        )

    yield "any", "epsilon_one_run", bound("epsilon_one_run")
    yield "gaussian", "epsilon_one_run_fdp", bound("epsilon_one_run_fdp")
    yield "any", "epsilon_clopper_pearson", bound("epsilon_clopper_pearson")
    yield "gaussian", "epsilon_from_gdp", gdp
    for method in ("epsilon_one_run", "epsilon_one_run_fdp", "epsilon_clopper_pearson"):
        yield "agreement", method, explicit(method)


def _privacy_estimates() -> Iterator[tuple[str, str, Bound]]:
    """Yield the two quick bounds of privacy-estimates, at the declared threshold."""
    compute_eps_lo = importlib.import_module("privacy_estimates").compute_eps_lo
    attack_results = importlib.import_module("privacy_estimates.utils").AttackResults

    def bound(method: str) -> Bound:
        def run(inside: Any, outside: Any, case: dict[str, Any]) -> float:
            hits = int((inside >= case["threshold"]).sum())
            false_hits = int((outside >= case["threshold"]).sum())
            count = attack_results(
                TP=hits, FN=len(inside) - hits, FP=false_hits, TN=len(outside) - false_hits
            )
            return float(compute_eps_lo(count, case["delta"], _ERROR, method))

        return run

    yield "any", "clopper_pearson", bound("beta")
    yield "any", "jeffreys", bound("jeffreys")


def _opake() -> Iterator[tuple[str, str, Bound]]:
    """Yield the bounds of opake-auditing, with its default choice of a threshold."""
    root = Path(str(metadata.distribution("opake-auditing").locate_file("opake")))
    for name in ("opake", "opake.api", "opake.api.auditing"):
        package = types.ModuleType(name)
        package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = package
    errors = types.ModuleType("opake.exceptions")
    errors.__dict__.update(ConfigurationError=ValueError, OperationError=RuntimeError)
    sys.modules["opake.exceptions"] = errors
    theirs = importlib.import_module("opake.api.auditing.one_run._estimate")
    counts = importlib.import_module("opake.api.auditing.one_run._roc").get_tn_fn_counts

    def estimate(inside: Any, outside: Any) -> Any:
        thresholds, right_out, missed = counts(inside, outside)
        return theirs.OneRunEstimate(
            n_in=len(inside),
            n_out=len(outside),
            thresholds=thresholds,
            tn_counts=right_out,
            fn_counts=missed,
            tp_counts=(missed[-1] - missed)[::-1],
            fp_counts=(right_out[-1] - right_out)[::-1],
            in_scores=inside,
            out_scores=outside,
        )

    def pair(inside: Any, outside: Any, case: dict[str, Any]) -> float:
        return float(estimate(inside, outside).eps_delta().epsilon_at(delta=case["delta"]))

    def gdp(inside: Any, outside: Any, case: dict[str, Any]) -> float:
        return float(estimate(inside, outside).gdp(grid_size=1000).epsilon_at(delta=case["delta"]))

    yield "any", "eps_delta", pair
    yield "gaussian", "gdp", gdp


TOOLS = {
    "jax-privacy": _jax_privacy,
    "privacy-estimates": _privacy_estimates,
    "opake-auditing": _opake,
}


def main(source: Path, target: Path) -> None:
    """Bound every run of every mechanism by every tool; keep failures with their reasons."""
    given = np.load(source)
    cases = json.loads(str(given["cases"]))
    rows: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    for tool, load in TOOLS.items():
        try:
            bounds = list(load())
        except Exception as error:  # noqa: BLE001 - goes on record
            failures.append({"what": tool, "reason": f"{type(error).__name__}: {error}"})
            continue
        for kind, name, bound in bounds:
            for i, case in enumerate(cases):
                if kind not in case["kinds"]:
                    continue
                try:
                    rows.append(
                        {"tool": tool, "version": metadata.version(tool), "kind": kind}
                        | {"estimator": name, "mechanism": case["mechanism"], "case": i}
                        | _bounds(bound, given[f"scores_{i}"], given[f"coins_{i}"], case)
                    )
                except Exception as error:  # noqa: BLE001 - goes on record
                    what = f"{tool} {name} on {case['mechanism']} {case['parameter']:g}"
                    failures.append({"what": what, "reason": f"{type(error).__name__}: {error}"})
    target.write_text(json.dumps({"rows": rows, "failures": failures}), encoding="utf-8")


def _bounds(bound: Bound, scores: Any, coins: Any, case: dict[str, Any]) -> dict[str, Any]:
    start = time.perf_counter()
    found = [bound(s[c == 1], s[c == 0], case) for s, c in zip(scores, coins, strict=True)]
    return {"bounds": found, "seconds": time.perf_counter() - start}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
