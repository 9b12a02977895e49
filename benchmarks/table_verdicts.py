"""How do audits of a sound release of a table end, and how small a leak would they have seen?

A sound release: a generator of ours at the epsilon asked for, fitted to arms that are drawn anew each time,
so that the split, the noise, the rows drawn and the audit's own draws all vary. What is counted: verdicts,
the gates that did not pass, accusations by the near-copy test, and the limit of detection per leak.
Data: `example` (phantom patients with visits, others each time), a named table as in `tables`, or a file.

What it does not show: whether a leak that is there is named (`detection` and the self-test of each audit), and other
tiers than the registered one. Fits, draws and audits are those of `table_scale`, one process for all.
"""

import json
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import click

from benchmarks import table_scale_stages, table_sets
from benchmarks.envelope import Benchmark
from benchmarks.refusals import check_writable, refusing
from privacy.statistics import clopper_pearson
from privacy.table_schema import TableSchema, read_schema
from training import generators
from training.phantom_patients import COLUMNS, make_rows, schema_text

EXAMPLE = "example"
_ERROR = 0.05
_STAGES = (
    table_scale_stages.ingest,
    table_scale_stages.fit,
    table_scale_stages.sample,
    table_scale_stages.audit,
)


@click.command()
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option(
    "--data", default=EXAMPLE, show_default=True, help="example, a named table, or a CSV."
)
@click.option("--schema", type=click.Path(path_type=Path), help="TOML that declares a CSV.")
@click.option("--persons", type=click.IntRange(500), default=6000, show_default=True)
@click.option("--generator", default="aim", show_default=True)
@click.option("--epsilon", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True)
@click.option("--samples", type=click.IntRange(1000), default=5000, show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=20, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def main(  # noqa: PLR0913 - one parameter per option
    *,
    out: Path,
    data: str,
    schema: Path | None,
    persons: int,
    generator: str,
    epsilon: float,
    samples: int,
    repeats: int,
    seed: int,
) -> None:
    """Fit, draw and audit REPEATS times, and write OUT after each."""
    check_writable(file=out)
    with refusing():
        generators.load(generator)
    benchmark = Benchmark("table_verdicts", seed=seed)
    benchmark.extra |= {"data": data, "generator": generator, "epsilon": epsilon}
    asked = {"method": generator, "epsilon": epsilon, "rows": samples, "audit_samples": samples}
    for repeat in range(repeats):
        number = 1000 * seed + repeat
        benchmark.attempt(
            f"repeat {repeat}",
            partial(_add, benchmark, asked | {"seed": number}, data, schema, persons=persons),
        )
        benchmark.extra |= _shares(benchmark.results)
        benchmark.write(out)
    if not benchmark.results:
        raise click.ClickException(f"No audit ran: {benchmark.failures[-1]['reason']}")


def _add(
    benchmark: Benchmark, request: dict[str, Any], data: str, schema: Path | None, *, persons: int
) -> None:
    with tempfile.TemporaryDirectory(prefix="verdicts-") as name:
        folder = Path(name)
        declared = _table(folder, data, schema, persons=persons, seed=request["seed"])
        found: dict[str, Any] = {"seed": request["seed"]}
        for stage in _STAGES:
            found |= stage(folder, request, declared)
    benchmark.results.append(found)
    click.echo(json.dumps({"seed": found["seed"], "verdict": found["verdict"]}), err=True)


def _table(folder: Path, data: str, schema: Path | None, *, persons: int, seed: int) -> TableSchema:
    """Write the CSV that is ingested, and return what is declared of it."""
    target = folder / "table.csv"
    if data == EXAMPLE:
        rows = [COLUMNS, *make_rows(persons, seed=seed)]
        lines = (",".join(map(str, row)) for row in rows)
        target.write_text("\n".join(lines) + "\n", encoding="utf-8")
        declared = folder / "table.toml"
        declared.write_text(schema_text(persons), encoding="utf-8")
        return read_schema(declared)
    target.write_bytes(table_sets.csv_of(data).read_bytes())
    return read_schema(table_sets.schema_of(data, schema))


def _shares(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how often each verdict fell and each gate did not pass, and the limits in order."""
    if not results:
        return {}
    verdicts = Counter(row["verdict"] for row in results)
    accused = sum(row["accused"] for row in results)
    limits: dict[str, list[float | None]] = {}
    for row in results:
        for leak, fraction in row["limits_of_detection"].items():
            limits.setdefault(leak, []).append(fraction)
    return {
        "verdicts": {name: count / len(results) for name, count in verdicts.items()},
        "not_passed": dict(Counter(name for row in results for name in row["not_passed"])),
        "accused": {
            "rate": accused / len(results),
            "ci_high": clopper_pearson(accused, len(results), error=_ERROR)[1],
        },
        "limits_of_detection": {
            leak: sorted(found, key=lambda one: float("inf") if one is None else one)
            for leak, found in limits.items()
        },
    }


if __name__ == "__main__":
    main()
