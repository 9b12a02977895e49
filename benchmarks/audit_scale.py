"""How long does an audit take, and how much memory, as releases grow?

An audit is what a worker does once samples exist: the generator scores the records of the pool, then
the battery runs (copies, samples, losses, gradients where a generator has them) with its self-test and
the limits of detection. The generator is fitted and sampled beforehand, untimed. Data: the zip of
`--data`, or the one zip of knees in the folder that KAIMA_DATA names, or phantoms where there is none.
Each row is measured in a process of its own, so that `peak_bytes` (the largest resident set, the data and
libraries included) is its own. `exponent` is the slope of log seconds over log samples, per depth; below
1 means that a part of the cost does not grow with the samples. On a machine that does other work
too, `cpu_seconds` and `exponents_cpu` say more than the clock.

Not shown: fetching and storing; generators whose scores cost more than the default's; other set sizes.
"""

import os
import resource
import secrets
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.envelope import Benchmark
from benchmarks.image_sets import DATA_VARIABLE, load
from benchmarks.refusals import Refused, check_writable, refusing
from privacy import inclusion
from privacy.audits import run_battery
from privacy.evidence import Arm, Evidence
from privacy.manifests import DatasetSchema
from privacy.mechanisms import PrivacyTarget, UnitOfPrivacy
from privacy.planning import plan_mechanisms
from privacy.policy import Depth, load_policy
from service.walkthrough.declaration import round_count
from training import generators
from training.phantoms.cohort import make_cohort
from training.records import TrainingRecords
from training.run import LocalRun

SAMPLES = (2_500, 5_000, 10_000)
_TARGET = PrivacyTarget(epsilon=5.0, delta=1e-5)
_SCORED = (Arm.AUDIT_IN, Arm.AUDIT_OUT, Arm.REFERENCE_B)
_IN_TRAINING = (Arm.TRAIN, Arm.AUDIT_IN)


@dataclass(frozen=True, eq=False)
class Records:
    """A set to audit on. Shapes: images (N, H, W), labels (N,), persons (N,) counted from 0."""

    name: str
    images: NDArray[np.integer]
    labels: NDArray[np.integer]
    persons: NDArray[np.integer]
    schema: DatasetSchema


@click.command()
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--data", type=click.Path(path_type=Path), help="A zip, as it would be uploaded.")
@click.option("--label", default="kl_grade", show_default=True, help="Label column of the zip.")
@click.option("--generator", default="statistics", show_default=True)
@click.option(
    "--samples", type=click.IntRange(100), multiple=True, default=SAMPLES, show_default=True
)
@click.option(
    "--depth",
    "depths",
    type=click.Choice([depth.value for depth in Depth]),
    multiple=True,
    default=[depth.value for depth in Depth],
    show_default=True,
)
@click.option("--tier", default="registered", show_default=True)
@click.option("--persons", type=click.IntRange(100), default=2_500, help="Of phantoms.")
def main(  # noqa: PLR0913 - click passes options by name
    *,
    out: Path,
    seed: int,
    data: Path | None,
    label: str,
    generator: str,
    samples: tuple[int, ...],
    depths: tuple[str, ...],
    tier: str,
    persons: int,
) -> None:
    """Measure audits and write OUT."""
    check_writable(file=out)
    with refusing():
        load_policy().tier(tier)
        generators.load(generator)
    path = data or _knees()
    benchmark = Benchmark("audit_scale", seed=seed)
    benchmark.extra |= {"data": "phantoms" if path is None else path.stem, "generator": generator}
    for depth in depths:
        for count in sorted(set(samples)):
            case = Case(path, label, generator, count, depth, tier=tier, persons=persons, seed=seed)
            click.echo(f"measuring {count} samples, {depth} ...", err=True)
            benchmark.attempt(f"{count} samples, {depth}", partial(_add, benchmark, case))
            benchmark.extra |= _exponents(benchmark.results)
            benchmark.write(out)
    if not benchmark.results:
        raise click.ClickException(f"No audit ran: {benchmark.failures[-1]['reason']}")


@dataclass(frozen=True)
class Case:
    """One audit to measure."""

    data: Path | None
    label: str
    generator: str
    samples: int
    depth: str
    tier: str
    persons: int
    seed: int


def _knees() -> Path | None:
    """Return the zip of knees in the folder that the environment names, if there is one."""
    folder = os.environ.get(DATA_VARIABLE)
    found = sorted(Path(folder).glob("*knee*.zip")) if folder else []
    if len(found) > 1:
        raise Refused(
            f"{DATA_VARIABLE} was refused: it holds {len(found)} zips of knees. Name one with --data."
        )
    return found[0] if found else None


def _add(benchmark: Benchmark, case: Case) -> None:
    # A process of its own for each row: the largest resident set never shrinks.
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        row = pool.submit(measure, case).result()
    benchmark.results.append(row)
    click.echo(
        f"  {row['seconds']:.0f} s, {row['peak_bytes'] / 2**20:.0f} MiB, {row['verdict']}", err=True
    )


def measure(case: Case) -> dict[str, Any]:
    """Fit and sample, then audit; return the row of the audit."""
    records = (
        _phantoms(case.persons, case.seed) if case.data is None else _zip(case.data, case.label)
    )
    evidence, score_seconds, score_cpu_seconds = gather(records, case)
    started, cpu_started = time.perf_counter(), time.process_time()
    report = run_battery(
        evidence,
        policy=load_policy(),
        tier=case.tier,
        attempt=1,
        rng=np.random.default_rng(case.seed),
        depth=Depth(case.depth),
    )
    seconds = time.perf_counter() - started
    cpu_seconds = time.process_time() - cpu_started
    return {
        "samples": case.samples,
        "persons": len(evidence.arms),
        "images": len(evidence.records),
        "pixels": int(evidence.records.shape[-1]),
        "tier": case.depth,
        "seconds": score_seconds + seconds,
        "cpu_seconds": score_cpu_seconds + cpu_seconds,
        "score_seconds": score_seconds,
        "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "verdict": report.verdict.value,
        "verdict_reason": report.verdict_reason,
        "self_test_passed": report.self_test_passed,
        "audits": [finding.audit for finding in report.findings],
        "limits_of_detection": {found.leak: found.fraction for found in report.limit_of_detection},
    }


def gather(records: Records, case: Case) -> tuple[Evidence, float, float]:
    """Return the evidence that a worker would gather; seconds of scoring by clock and processor."""
    arms, folds = _split(len(np.unique(records.persons)), records.schema)
    trained = np.isin(arms, _IN_TRAINING)[records.persons]
    module = generators.load(case.generator)
    config = module.Config()
    mechanisms = plan_mechanisms(
        module.STAGES,
        config=config.model_dump(),
        target=_TARGET,
        public_train_count=round_count(int(trained.sum())),
    )
    learnt = TrainingRecords(
        images=records.images[trained],
        labels=records.labels[trained],
        persons=np.unique(records.persons[trained], return_inverse=True)[1],
    )
    fitted = module.fit(
        learnt, config, schema=records.schema, run=LocalRun(mechanisms), seed=case.seed
    )
    labels = (np.arange(case.samples) % len(records.schema.labels)).astype(np.int64)
    samples = fitted.sample(labels, seed=case.seed)
    started, cpu_started = time.perf_counter(), time.process_time()
    rows = np.flatnonzero(np.isin(arms, _SCORED)[records.persons])
    asked = records.images[rows], records.labels[rows]
    scores = fitted.score(*asked, seed=case.seed)
    gradients = generators.gradient_features(fitted, *asked, seed=case.seed)
    whole = {name: _spread(values, rows, len(records.images)) for name, values in scores.items()}
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    evidence = Evidence(
        modality="image",
        unit=UnitOfPrivacy.PERSON,
        records=records.images,
        labels=records.labels,
        persons=records.persons,
        arms=arms,
        folds=folds,
        excluded=_with_a_double(records),
        samples=samples,
        sample_labels=labels,
        target=_TARGET,
        mechanisms=fitted.mechanisms or mechanisms,
        record_scores=whole,
        gradient_features=_spread(gradients, rows, len(records.images)),
    )
    return evidence, seconds, cpu


def _spread(values: NDArray[np.floating], rows: NDArray[np.integer], count: int) -> Any:
    """Return values at their rows among `count`, NaN elsewhere."""
    whole = np.full((count, *values.shape[1:]), np.nan)
    whole[rows] = values
    return whole


def _split(persons: int, schema: DatasetSchema) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Draw arms and folds as the service does, under fresh keys."""
    digests = np.frombuffer(secrets.token_bytes(32 * persons), dtype=np.uint8).reshape(-1, 32)
    run_key = secrets.token_bytes(32)
    arms = inclusion.assign_arms(
        digests,
        reference_key=secrets.token_bytes(32),
        run_key=run_key,
        rates=inclusion.rates_for(schema.declared_count),
    )
    return arms, inclusion.assign_folds(digests, run_key=run_key)


def _with_a_double(records: Records) -> NDArray[np.bool_]:
    """Return which persons share an image with another person, as ingest reports them."""
    flat = records.images.reshape(len(records.images), -1)
    _, same = np.unique(flat, axis=0, return_inverse=True)
    pairs = np.unique(np.stack([same.reshape(-1), records.persons]), axis=1)
    owners = np.bincount(pairs[0])
    doubled = np.zeros(int(records.persons.max()) + 1, dtype=np.bool_)
    doubled[pairs[1][owners[pairs[0]] > 1]] = True
    return doubled


def _zip(path: Path, label: str) -> Records:
    """Read a zip as an upload is read, both of its splits together."""
    found = load(str(path), label=label, test="same", unit=UnitOfPrivacy.PERSON)
    parts = (found.train, found.test)
    sizes = [len(np.unique(part.persons)) for part in parts]
    persons = [np.unique(part.persons, return_inverse=True)[1] for part in parts]
    schema = found.schema.model_copy(update={"declared_count": round_count(sum(sizes))})
    return Records(
        path.stem,
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.labels for part in parts]).astype(np.int64),
        np.concatenate([persons[0], persons[1] + sizes[0]]),
        schema,
    )


def _phantoms(persons: int, seed: int) -> Records:
    cohort = make_cohort(persons, seed=seed)
    schema = DatasetSchema(
        declared_count=round_count(persons),
        height=cohort.images.shape[1],
        width=cohort.images.shape[2],
        label="kl_grade",
        labels=("0", "1", "2", "3", "4"),
    )
    return Records(
        "phantoms", cohort.images, cohort.grades.astype(np.int64), cohort.persons, schema
    )


def _exponents(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the growth of seconds with samples: the largest over depths, and each."""
    found, by_processor = _slopes(rows, "seconds"), _slopes(rows, "cpu_seconds")
    if not found:
        return {"exponent": None, "exponent_reason": "fewer than two sizes were measured"}
    return {
        "exponent": max(found.values()),
        "exponents": found,
        "exponents_cpu": by_processor,
        "exponent_reason": None,
    }


def _slopes(rows: Sequence[dict[str, Any]], name: str) -> dict[str, float]:
    """Return the slope of log `name` over log samples of each depth with two sizes at least."""
    found: dict[str, float] = {}
    for depth in dict.fromkeys(row["tier"] for row in rows):
        mine = [row for row in rows if row["tier"] == depth]
        if len(mine) >= 2:
            x = np.log([row["samples"] for row in mine])
            found[depth] = float(np.polyfit(x, np.log([row[name] for row in mine]), 1)[0])
    return found


if __name__ == "__main__":
    main()
