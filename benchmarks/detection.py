"""Which leaks are found, from how many copies on? Ours and other tools', on identical data.

Fresh real records stand for a generator without any leak: they belong to nobody in any arm. Copies of a
few members are planted among them: verbatim, jittered, augmented, or verbatim of the most unusual
tenth. A tool *flags* a set by its own test where it has one. Ours is the near-copy audit at its alarm
level; Anonymeter flags where the lower bound of any risk, over its attacks with Bonferroni at 1 %, is
above 0. Tools that give a number without an error (SDMetrics, SynthEval, mostlyai-qa) flag beyond what
their own innocent sets in this very run show, at a nominal 1 % (mean and 2.33 standard deviations):
more than any of them offers its users.

What it does not show: leaks other than copies, and other settings of the peers. Ours measures the
innocent set once per repeat and adds distances of planted copies, which gives what measuring the whole
set would; its seconds are of a whole near-copy audit.
"""

import json
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.detection_data import LEAKS, Records, Split, draw, evidence_of, load, plant
from benchmarks.envelope import Benchmark, quantile
from benchmarks.peer_environments import answer_of, environment
from benchmarks.refusals import check_writable
from privacy.copies import Config, Detector
from privacy.evidence import Evidence
from privacy.exact_copies import Verbatim, match_verbatim, natural_twins, unique_records
from privacy.neighbourhoods import joined, nearest_of_rows, population_of, survey
from privacy.policy import load_policy
from privacy.statistics import clopper_pearson

OURS = (0.001, 0.002, 0.003, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.3, 1.0)
PEERS = {"verbatim": (0.003, 0.03, 0.3, 1.0), "jittered": (0.3, 1.0)}
INSTALLS = {
    "anonymeter": ("anonymeter==1.1.0",),
    "sdmetrics": ("sdmetrics==0.32.0",),
    "syntheval": ("syntheval==1.7.3",),
    # Without a version, torch comes with gigabytes for graphics cards that it does not use here.
    "mostlyai-qa": ("torch==2.13.0", "mostlyai-qa==1.10.11"),
}
_STARTING_SECONDS = 600  # beyond a peer's time: imports, and the set at which it runs out
_FEWEST_CLEAN = 4  # innocent sets from which a threshold may be told
_ERROR = 0.05


@dataclass(frozen=True)
class Case:
    """One set of samples: a leak, its share of members, and the repeat that it belongs to."""

    leak: str
    fraction: float
    repeat: int


@click.command()
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--data", "names", multiple=True, default=("randhie", "mnist"), show_default=True)
@click.option(
    "--label", help="Label column of a zip; the first one that is none of ours by default."
)
@click.option("--arm", type=click.IntRange(100), default=1000, show_default=True)
@click.option("--repeats", type=click.IntRange(2), default=20, show_default=True)
@click.option("--innocents", type=click.IntRange(0), default=80, show_default=True)
@click.option("--peers", type=click.Choice(["none", "all"]), default="all", show_default=True)
@click.option(
    "--peer-minutes",
    type=click.FloatRange(0.1),
    default=10.0,
    show_default=True,
    help="Each peer stops after so long and is judged by the repeats it got through.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def main(  # noqa: PLR0913 - one parameter per option
    *,
    out: Path,
    names: tuple[str, ...],
    label: str | None,
    arm: int,
    repeats: int,
    innocents: int,
    peers: str,
    peer_minutes: float,
    seed: int,
) -> None:
    """Measure limits of detection and write OUT.

    NAME is randhie, mnist, fashion_mnist or a zip; INNOCENTS are further sets without a leak, for ours.
    """
    check_writable(file=out)
    benchmark = Benchmark("detection", seed=seed)
    benchmark.extra |= {"limit_of_detection": [], "false_alarm_rate": []}
    for name in names:
        records = load(name, label=label)
        draw(records, units_per_arm=arm, rng=np.random.default_rng(seed))  # refuses too few
        bench = _Bench(records, arm=arm, seed=seed)
        benchmark.attempt(
            f"ours on {records.name}",
            partial(_add_ours, benchmark, bench, repeats, innocents),
        )
        benchmark.write(out)
        for tool in INSTALLS if peers == "all" else ():
            if records.modality != "table":
                benchmark.results.append(_not_run(tool, bench, "it reads tables only"))
                continue
            done = benchmark.attempt(
                f"{tool} on {records.name}",
                partial(_add_peer, benchmark, bench, tool, repeats, 60 * peer_minutes),
            )
            if not done:
                benchmark.results.append(_not_run(tool, bench, benchmark.failures[-1]["reason"]))
            benchmark.write(out)
    benchmark.write(out)


class _Bench:
    """The splits, innocent sets and planted copies of one data set; equal for every tool."""

    def __init__(self, records: Records, *, arm: int, seed: int) -> None:
        self.records, self.arm, self.seed = records, arm, seed

    def split(self, repeat: int) -> tuple[Split, np.random.Generator]:
        rng = np.random.default_rng([self.seed, repeat])
        return draw(self.records, units_per_arm=self.arm, rng=rng), rng

    def copies(self, repeat: int, leak: str) -> Any:
        split, _ = self.split(repeat)
        rng = np.random.default_rng([self.seed, repeat, LEAKS.index(leak)])
        return plant(self.records, split, leak, most=self.arm, rng=rng)

    def count(self, fraction: float) -> int:
        return max(1, round(fraction * self.arm))


@dataclass
class _Measured:
    """What one tool said: case -> flagged, and what it cost."""

    version: str
    flagged: dict[Case, bool]
    seconds: list[float]
    peak_bytes: int


def _ours(bench: _Bench, repeats: int, innocents: int) -> _Measured:
    policy = load_policy()
    level = policy.errors.near_copies
    flagged: dict[Case, bool] = {}
    seconds: list[float] = []
    for repeat in range(repeats + innocents):
        split, rng = bench.split(repeat)
        started = time.perf_counter()
        samples = bench.records.values[split.fresh]
        evidence = evidence_of(bench.records, split, samples, rng)
        audit = _Audit(evidence, permutations=policy.grid.permutations, rng=rng)
        flagged[Case("none", 0.0, repeat)] = audit.p_value() < level
        seconds.append(time.perf_counter() - started)
        if repeat >= repeats:
            continue
        for leak in LEAKS:
            planted = bench.copies(repeat, leak)[: bench.count(max(OURS))]
            for fraction, found in audit.with_copies(planted, bench, level=level):
                flagged[Case(leak, fraction, repeat)] = found
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return _Measured("this tree", flagged, seconds, peak)


class _Audit:
    """A near-copy audit of an innocent set, and of the same set with copies added."""

    def __init__(self, evidence: Evidence, *, permutations: int, rng: np.random.Generator) -> None:
        self._evidence = evidence
        self._population = population_of(evidence)
        self._unique = unique_records(evidence, self._population)
        self._twins = natural_twins(evidence)
        self._survey = survey(
            evidence,
            keep=np.empty(0, dtype=np.int64),
            population=self._population,
            progress=lambda *_: None,
        )
        self._detector = Detector(
            self._population,
            self._survey.calibration,
            sample_count=len(evidence.samples),
            config=Config(permutations=permutations),
            rng=rng,
        )
        self._verbatim = self._matches(evidence.samples)

    def _matches(self, samples: Any) -> Verbatim:
        like = self._evidence.records
        return match_verbatim(samples, self._unique, like=like, twins=self._twins)

    def p_value(self) -> float:
        return self._detector.inspect(self._survey.samples, self._verbatim).p_value

    def with_copies(
        self, planted: Any, bench: _Bench, *, level: float
    ) -> Iterator[tuple[float, bool]]:
        found = {
            name: np.concatenate([block for _, block in gallery.search(planted)])
            for name, gallery in self._survey.galleries.items()
        }
        for fraction in OURS:
            count = bench.count(fraction)
            if count > len(planted):
                return
            both = {
                name: joined(
                    self._survey.samples[name],
                    nearest_of_rows(
                        distances[:count],
                        self._population,
                        space=self._survey.galleries[name].space,
                    ),
                )
                for name, distances in found.items()
            }
            some = planted[:count]
            person = np.concatenate([self._verbatim.person, self._matches(some).person])
            copies = self._detector.inspect(both, Verbatim(person, self._twins), enough=level)
            yield fraction, copies.p_value < level


def _peer(bench: _Bench, tool: str, repeats: int, seconds: float) -> _Measured:
    """Give the same sets to another tool in an environment of its own.

    Raises: RuntimeError if it did not get through the fewest clean sets in its time.
    """
    with environment(INSTALLS[tool]) as python, tempfile.TemporaryDirectory() as folder:
        cases = _hand_over(bench, Path(folder), repeats)
        found = answer_of(
            python,
            "detection_peers.py",
            tool,
            folder,
            str(seconds),
            target=Path(folder) / "values.json",
            seconds=int(seconds) + _STARTING_SECONDS,
        )
    done = _whole_repeats(cases, len(found["values"]))
    values = dict(zip(cases[:done], found["values"][:done], strict=True))
    clean = [value for case, value in values.items() if case.leak == "none"]
    if len(clean) < _FEWEST_CLEAN:
        raise RuntimeError(
            f"{len(found['values'])} of {len(cases)} sets were done in {seconds:.0f} s, "
            f"{len(clean)} repeats; a threshold needs {_FEWEST_CLEAN}; give --peer-minutes more"
        )
    threshold = found["threshold"]
    if threshold is None:
        threshold = float(np.mean(clean) + 2.33 * np.std(clean, ddof=1))
    return _Measured(
        found["version"],
        {case: value > threshold for case, value in values.items()},
        found["seconds"],
        found["peak_bytes"],
    )


def _whole_repeats(cases: list[Case], done: int) -> int:
    """Return how many of the first `done` cases belong to repeats that were finished."""
    if done == len(cases):
        return done
    return next(i for i, case in enumerate(cases) if case.repeat == cases[done].repeat)


def _hand_over(bench: _Bench, folder: Path, repeats: int) -> list[Case]:
    """Write the sets repeat by repeat, so that a slow tool is judged by the first ones."""
    cases = []
    for repeat in range(repeats):
        cases.append(Case("none", 0.0, repeat))
        cases += [Case(leak, share, repeat) for leak, shares in PEERS.items() for share in shares]
    for number, case in enumerate(cases):
        split, _ = bench.split(case.repeat)
        samples = bench.records.values[split.fresh]
        if case.leak != "none":
            planted = bench.copies(case.repeat, case.leak)[: bench.count(case.fraction)]
            samples = np.concatenate([samples, planted])
        np.savez(
            folder / f"{number}.npz",
            members=bench.records.values[split.members],
            holdout=bench.records.values[split.holdout],
            samples=samples,
        )
    columns = {"columns": bench.records.columns, "cases": len(cases)}
    (folder / "columns.json").write_text(json.dumps(columns), encoding="utf-8")
    return cases


def _add_ours(benchmark: Benchmark, bench: _Bench, repeats: int, innocents: int) -> None:
    _add(benchmark, bench, _ours(bench, repeats, innocents), "kaima")


def _add_peer(benchmark: Benchmark, bench: _Bench, tool: str, repeats: int, seconds: float) -> None:
    _add(benchmark, bench, _peer(bench, tool, repeats, seconds), tool)


def _add(benchmark: Benchmark, bench: _Bench, measured: _Measured, tool: str) -> None:
    groups: dict[tuple[str, float], list[bool]] = {}
    for case, is_found in measured.flagged.items():
        groups.setdefault((case.leak, case.fraction), []).append(bool(is_found))
    for (leak, fraction), found in groups.items():
        low, high = clopper_pearson(sum(found), len(found), error=_ERROR)
        benchmark.results.append(
            _about(tool, bench)
            | {
                "version": measured.version,
                "leak": leak,
                "fraction": fraction,
                "synthetic": 2 * bench.arm + (bench.count(fraction) if fraction else 0),
                "repeats": len(found),
                "flagged": sum(found),
                "flag_rate": sum(found) / len(found),
                "ci_low": low,
                "ci_high": high,
                "seconds_median": quantile(measured.seconds, 0.5),
                "peak_bytes": measured.peak_bytes,
                "ran": True,
                "reason": None,
            }
        )
    for leak in dict.fromkeys(leak for leak, _ in groups if leak != "none"):
        shares = sorted(fraction for name, fraction in groups if name == leak)
        rates = [sum(groups[leak, share]) / len(groups[leak, share]) for share in shares]
        good = [share for i, share in enumerate(shares) if min(rates[i:]) >= 0.95]
        benchmark.extra["limit_of_detection"].append(
            {
                "tool": tool,
                "data": bench.records.name,
                "leak": leak,
                "fraction_95": good[0] if good else None,
                "reason": None if good else f"no share up to {shares[-1]:g} was flagged in 95 %",
            }
        )
    clean = groups["none", 0.0]
    benchmark.extra["false_alarm_rate"].append(
        {
            "tool": tool,
            "data": bench.records.name,
            "rate": sum(clean) / len(clean),
            "ci_high": clopper_pearson(sum(clean), len(clean), error=_ERROR)[1],
            "repeats": len(clean),
        }
    )


def _about(tool: str, bench: _Bench) -> dict[str, Any]:
    return {
        "tool": tool,
        "data": bench.records.name,
        "modality": bench.records.modality,
        "fraction_of": "members",
        "members": bench.arm,
        "holdout": bench.arm,
    }


def _not_run(tool: str, bench: _Bench, reason: str) -> dict[str, Any]:
    missing: tuple[str, ...] = (
        "version",
        "leak",
        "fraction",
        "synthetic",
        "repeats",
        "flagged",
        "flag_rate",
    )
    missing += ("ci_low", "ci_high", "seconds_median", "peak_bytes")
    return _about(tool, bench) | dict.fromkeys(missing) | {"ran": False, "reason": reason}


if __name__ == "__main__":
    main()
