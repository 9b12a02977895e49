"""Are lower bounds on epsilon true, and how near the truth? Ours and the peers', on the same scores.

Mechanisms of known epsilon (`epsilon_mechanisms`), many runs each. `violations` counts bounds above
the truth: at 5 %, 21 of 200 is the 99.9 % quantile. `positives` counts bounds above 0; for noise both are
the same. Estimators of kind `any` hold for any mechanism, `gaussian` ones for Gaussian trade-off
curves, and are measured only where that holds. `reference_mean` is what a good implementation
reached before (jax-privacy at a fixed threshold for randomised response, over all thresholds for the
Gaussian); `agreement` compares with jax-privacy where both are given the same counts. `claims` is how
often a claimed Gaussian curve is refuted directly. `two_worlds` takes independent runs instead.

Not shown: that attacks on real generators find scores as good as these.
"""

import json
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy import special

from benchmarks.envelope import Benchmark
from benchmarks.epsilon_mechanisms import ANY, DELTA, GAUSSIAN, Known, mechanisms
from benchmarks.peer_environments import answer_of, environment
from benchmarks.refusals import check_writable
from privacy.epsilon_bounds import (
    EpsilonBound,
    Guessing,
    TwoWorlds,
    epsilon_lower_bound,
    one_run_epsilon,
    one_run_gaussian_epsilon,
    two_world_epsilon,
    two_world_gaussian_epsilon,
)
from privacy.tradeoffs import gaussian_dp_epsilon

ERROR = 0.05
_INSTALLS = (
    ("numpy", "scipy", "dp-accounting"),
    ("--no-deps", "jax-privacy==2.0.0"),
    ("privacy-estimates==0.1.0.post1",),
    ("--no-deps", "opake-auditing==0.16.1"),
)
_NOT_TRIED = {
    "privacy-estimates joint-beta": "a Bayesian credible bound that takes five seconds each",
    "tensorflow-empirical-privacy 0.1.0": "needs numpy 1.21, which this Python cannot install",
}
_CLAIMS = (1.0, 0.75, 0.5)  # claimed mu, as a share of the true one
_CLAIM_EPSILONS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
_PEER_SECONDS = 3600
_RUNS_PER_WORLD = 1000


@click.command()
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--runs", type=click.IntRange(2), default=200, show_default=True)
@click.option("--peers", type=click.Choice(["none", "all"]), default="all", show_default=True)
def main(*, out: Path, seed: int, runs: int, peers: str) -> None:
    """Measure bounds and write OUT."""
    check_writable(file=out)
    benchmark = Benchmark("epsilon_bounds", seed=seed)
    rng = np.random.default_rng(seed)
    cases = [(known, *known.runs(runs, rng)) for known in mechanisms()]
    for known, scores, coins in cases:
        benchmark.attempt(
            f"ours on {known.name} {known.parameter:g}",
            lambda k=known, s=scores, c=coins: benchmark.results.extend(_ours(k, s, c, rng)),  # type: ignore[misc]
        )
    benchmark.attempt(
        "two worlds", lambda: benchmark.results.extend(_two_worlds(runs=runs, rng=rng))
    )
    benchmark.attempt(
        "claims", lambda: benchmark.extra.update(claims=_claims(cases, runs=runs, rng=rng))
    )
    benchmark.write(out)
    if peers == "all":
        benchmark.failures += [{"what": k, "reason": v} for k, v in _NOT_TRIED.items()]
        benchmark.attempt("peers", lambda: _peers(benchmark, cases))
        benchmark.write(out)


def _ours(known: Known, scores: Any, coins: Any, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return a row for each of our estimators that holds for the mechanism."""
    found = [_bound(known, s, c, rng) for s, c in zip(scores, coins, strict=True)]
    rows = [
        _row(
            known,
            ANY,
            [b.value for b in found],
            estimator="one_run",
            max_certifiable=found[0].max_certifiable,
        )
    ]
    if GAUSSIAN in known.truths:
        rows.append(
            _row(
                known,
                GAUSSIAN,
                [b.gaussian_value for b in found],
                estimator="one_run_gaussian",
                max_certifiable=found[0].gaussian_max_certifiable,
            )
        )
    return rows


def _bound(
    known: Known,
    scores: Any,
    coins: Any,
    rng: np.random.Generator,
    claim: tuple[tuple[float, float], ...] = (),
) -> EpsilonBound:
    return epsilon_lower_bound(
        {"scores": scores},
        coins,
        delta=DELTA,
        grid=known.guesses,
        error=ERROR,
        rng=rng,
        claim=claim,
    )


def _row(
    known: Known,
    kind: str,
    bounds: list[float],
    *,
    estimator: str,
    max_certifiable: float | None,
    tool: str = "kaima",
    version: str | None = None,
) -> dict[str, Any]:
    """Return one result as the interface names it."""
    truth, reference = known.truths[kind], known.references.get(kind)
    mean = float(np.mean(bounds))
    row = {
        "mechanism": known.name,
        "parameter": known.parameter,
        "epsilon_true": truth,
        "delta": DELTA,
        "m": known.persons,
        "guesses": list(known.guesses) if tool == "kaima" else None,
        "confidence": 1 - ERROR,
        "estimator": estimator,
        "kind": kind,
        "tool": tool,
        "version": version or metadata.version("kaima"),
        "runs": len(bounds),
        "violations": int(np.sum(np.array(bounds) > truth)),
        "positives": int(np.sum(np.array(bounds) > 0)),
        "mean_bound": mean,
        "median_bound": float(np.median(bounds)),
        "max_certifiable": max_certifiable,
        "reference_mean": reference,
        "ratio_to_reference": mean / reference if reference else None,
    }
    if reference is None:
        reason = "there is none for this mechanism"
        row["reference_mean_reason"] = row["ratio_to_reference_reason"] = reason
    if max_certifiable is None:
        row["max_certifiable_reason"] = row["guesses_reason"] = "the tool does not say"
    return row


def _two_worlds(*, runs: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return bounds from independent runs with and without one unit, at a threshold set beforehand."""
    rows = []
    for mu in (1.0, 2.0):
        truth = gaussian_dp_epsilon(mu, DELTA)
        known = Known(
            name="two_worlds_gaussian",
            parameter=mu,
            persons=2 * _RUNS_PER_WORLD,
            guesses=(2 * _RUNS_PER_WORLD,),
            truths={ANY: truth, GAUSSIAN: truth},
            references={},
            threshold=mu,
            draw=lambda rng, coins: rng.normal(size=len(coins)),
        )
        rates = special.ndtr(mu - known.threshold), special.ndtr(-known.threshold)
        hits, false_hits = (rng.binomial(_RUNS_PER_WORLD, rate, runs) for rate in rates)
        seen = [
            TwoWorlds(int(h), _RUNS_PER_WORLD, int(f), _RUNS_PER_WORLD)
            for h, f in zip(hits, false_hits, strict=True)
        ]
        perfect = TwoWorlds(_RUNS_PER_WORLD, _RUNS_PER_WORLD, 0, _RUNS_PER_WORLD)
        for kind, name, bound in (
            (ANY, "two_worlds", two_world_epsilon),
            (GAUSSIAN, "two_worlds_gaussian", two_world_gaussian_epsilon),
        ):
            rows.append(
                _row(
                    known,
                    kind,
                    [bound(s, delta=DELTA, error=ERROR) for s in seen],
                    estimator=name,
                    max_certifiable=bound(perfect, delta=DELTA, error=ERROR),
                )
            )
    return rows


def _claims(cases: Any, *, runs: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return how often a claim of `claimed_mu` is refuted, for mechanisms of a true mu."""
    rows = []
    for known, scores, coins in cases:
        if known.name != "gaussian":
            continue
        for share in _CLAIMS:
            mu = share * known.parameter
            claim = _gaussian_curve(mu)
            refuted = sum(
                (_bound(known, s, c, rng, claim).claim_p_value or 0.0) <= ERROR
                for s, c in zip(scores, coins, strict=True)
            )
            rows.append(
                {
                    "mechanism": known.name,
                    "true_mu": known.parameter,
                    "claimed_mu": mu,
                    "claimed_epsilon": gaussian_dp_epsilon(mu, DELTA),
                    "runs": runs,
                    "refuted": refuted,
                }
            )
    return rows


def _gaussian_curve(mu: float) -> tuple[tuple[float, float], ...]:
    """Return pairs of a Gaussian claim, delta rounded up by what floating point may lose."""
    return tuple(
        (
            e,
            float(special.ndtr(mu / 2 - e / mu) - np.exp(e) * special.ndtr(-mu / 2 - e / mu))
            + 1e-12,
        )
        for e in _CLAIM_EPSILONS
    )


def _peers(benchmark: Benchmark, cases: Any) -> None:
    """Give the same scores to the peers, in an environment of their own."""
    with environment(*_INSTALLS) as python, tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "scores.npz", Path(folder) / "bounds.json"
        _hand_over(source, cases)
        found = answer_of(
            python, "epsilon_peers.py", str(source), target=target, seconds=_PEER_SECONDS
        )
    benchmark.failures += found["failures"]
    agreement = []
    for row in found["rows"]:
        known, scores, coins = cases[row["case"]]
        if row["kind"] == "agreement":
            agreement.append(_agreement(row, known, scores, coins))
            continue
        result = _row(
            known,
            row["kind"],
            row["bounds"],
            estimator=row["estimator"],
            max_certifiable=None,
            tool=row["tool"],
            version=row["version"],
        )
        benchmark.results.append(result | {"seconds": row["seconds"]})
    benchmark.extra["agreement"] = agreement


def _hand_over(path: Path, cases: Any) -> None:
    described = [
        {
            "mechanism": known.name,
            "parameter": known.parameter,
            "threshold": known.threshold,
            "delta": DELTA,
            "kinds": [*known.truths, "agreement"],
        }
        for known, _, _ in cases
    ]
    arrays = {f"scores_{i}": scores for i, (_, scores, _) in enumerate(cases)}
    arrays |= {f"coins_{i}": coins for i, (_, _, coins) in enumerate(cases)}
    np.savez(path, cases=np.array(json.dumps(described)), **arrays)


def _agreement(row: dict[str, Any], known: Known, scores: Any, coins: Any) -> dict[str, Any]:
    """Return the largest difference between theirs and ours on the same counts."""
    ours = [
        _of_counts(row["estimator"], s >= known.threshold, c)
        for s, c in zip(scores, coins, strict=True)
    ]
    return {
        "tool": row["tool"],
        "version": row["version"],
        "estimator": row["estimator"],
        "mechanism": known.name,
        "parameter": known.parameter,
        "runs": len(ours),
        "largest_difference": float(np.max(np.abs(np.array(ours) - row["bounds"]))),
    }


def _of_counts(estimator: str, accused: Any, coins: Any) -> float:
    """Return our bound for the peer's way of guessing: those above the threshold, as members."""
    hits = int(coins[accused].sum())
    guessing = Guessing(len(coins), int(accused.sum()), hits)
    if estimator == "epsilon_one_run":
        return one_run_epsilon(guessing, delta=DELTA, error=ERROR)
    if estimator == "epsilon_one_run_fdp":
        return one_run_gaussian_epsilon(guessing, delta=DELTA, error=ERROR)
    members = int(coins.sum())
    seen = TwoWorlds(hits, members, guessing.guesses - hits, len(coins) - members)
    return two_world_epsilon(seen, delta=DELTA, error=ERROR)


if __name__ == "__main__":
    main()
