"""How do time and memory of ingest, fit, sample and audit grow with the rows of a table?

Phantom rows of nobody: half of the columns are numbers in ten bins, half categories with five levels, all
hanging on a few hidden causes, and a target. Every stage runs in a process of its own, so that its seconds
and `peak_bytes` (libraries included) are its own. Slopes are those of log seconds over log rows; 1 is linear.
On a machine that does other work too, `cpu_seconds` says more than the clock.

Stages: reading the CSV as an upload; fitting a generator to the trained-on persons; drawing as many rows as
there are; and the audit of as many synthetic rows as `--audit-samples`, with the quick battery. Not
shown: fetching and storing, several rows per person, other widths.
"""

import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from benchmarks.envelope import Benchmark
from benchmarks.peer_environments import answer_of_module
from benchmarks.refusals import check_writable

STAGES = ("ingest", "fit", "sample", "audit")
_CAUSES = 4
_ROWS_AT_ONCE = 100_000
_NUMBER_EDGES = [-4.0, -2.0, -1.2, -0.6, -0.2, 0.0, 0.2, 0.6, 1.2, 2.0, 4.0]
_LEVELS = ["a", "b", "c", "d", "e"]


@click.command()
@click.option("--rows", type=click.IntRange(2_000), default=1_000_000, show_default=True)
@click.option("--columns", type=click.IntRange(3, 200), default=40, show_default=True)
@click.option("--sizes", type=click.IntRange(1, 5), default=3, show_default=True, help="Of rows.")
@click.option("--method", default="aim", show_default=True)
@click.option("--epsilon", type=click.FloatRange(0, 100, min_open=True), default=1.0)
@click.option("--audit-samples", type=click.IntRange(100), default=10_000, show_default=True)
@click.option(
    "--stage", "stages", type=click.Choice(STAGES), multiple=True, default=STAGES, help="Which."
)
@click.option("--minutes", type=click.FloatRange(0, min_open=True), default=60, help="Per stage.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), required=True)
def main(**options: Any) -> None:
    """Measure every stage at growing sizes and write the document."""
    out: Path = options["out"]
    check_writable(file=out)
    benchmark = Benchmark("table_scale", seed=options["seed"])
    names = ("columns", "method", "epsilon", "audit_samples")
    benchmark.extra |= {name: options[name] for name in names}
    for size in sizes(options["rows"], options["sizes"]):
        with tempfile.TemporaryDirectory(prefix="table-scale-") as path:
            folder = Path(path)
            asked = options | {"rows": size, "out": None}
            (folder / "request.json").write_text(json.dumps(asked), encoding="utf-8")
            write_table(folder, rows=size, columns=options["columns"], seed=options["seed"])
            for stage in (stage for stage in STAGES if stage in options["stages"]):
                click.echo(f"{size} rows: {stage} ...", err=True)
                add = partial(_add, benchmark, folder, stage, size, 60 * options["minutes"])
                is_done = benchmark.attempt(f"{stage}, {size} rows", add)
                benchmark.extra["slopes"] = slopes(benchmark.results, "seconds")
                benchmark.extra["slopes_cpu"] = slopes(benchmark.results, "cpu_seconds")
                benchmark.write(out)
                if not is_done:
                    click.echo(f"  {benchmark.failures[-1]['reason']}", err=True)
                    break  # what follows needs it
    if not benchmark.results:
        raise click.ClickException("Nothing was measured.")


def sizes(rows: int, count: int) -> list[int]:
    """Return `count` sizes up to `rows`, each about three times the one before."""
    return [max(2_000, round(rows / 10 ** (0.5 * step))) for step in reversed(range(count))]


def schema_of(rows: int, columns: int) -> dict[str, Any]:
    """Return the declared schema of the phantom table."""
    numbers = columns // 2
    declared: list[dict[str, Any]] = [
        {"name": f"n{index}", "kind": "number", "edges": _NUMBER_EDGES} for index in range(numbers)
    ]
    declared += [
        {"name": f"c{index}", "kind": "category", "levels": _LEVELS}
        for index in range(columns - numbers - 1)
    ]
    declared.append(
        {"name": "target", "kind": "category", "levels": ["no", "yes"], "role": "target"}
    )
    count = float(f"{rows:.2g}")
    return {"unit": "person", "declared_count": int(count), "person": "id", "columns": declared}


def write_table(folder: Path, *, rows: int, columns: int, seed: int) -> None:
    """Write `table.csv` and `schema.json`, some rows at a time."""
    schema = schema_of(rows, columns)
    (folder / "schema.json").write_text(json.dumps(schema), encoding="utf-8")
    rng = np.random.default_rng(seed)
    numbers = columns // 2
    loads = rng.normal(0, 0.7, (_CAUSES, columns))
    names = ["id", *(column["name"] for column in schema["columns"])]
    fields = [("id", pa.string())]
    fields += [(n, pa.float64() if n.startswith("n") else pa.string()) for n in names[1:]]
    with pa_csv.CSVWriter(folder / "table.csv", pa.schema(fields)) as writer:
        for start in range(0, rows, _ROWS_AT_ONCE):
            count = min(_ROWS_AT_ONCE, rows - start)
            drawn = rng.normal(size=(count, _CAUSES)) @ loads + rng.normal(0, 0.5, (count, columns))
            cells: dict[str, Any] = {"id": [f"P{start + row}" for row in range(count)]}
            for index, name in enumerate(names[1:]):
                cells[name] = _cells(drawn[:, index], is_number=index < numbers, name=name)
            writer.write_table(pa.table(cells, schema=pa.schema(fields)))


def slopes(rows: list[dict[str, Any]], name: str) -> dict[str, float | None]:
    """Return the slope of log `name` over log rows of each stage, None of fewer than two sizes."""
    found: dict[str, float | None] = {}
    for stage in dict.fromkeys(row["stage"] for row in rows):
        mine = [row for row in rows if row["stage"] == stage]
        x, y = (np.log([row[key] for row in mine]) for key in ("rows", name))
        found[stage] = float(np.polyfit(x, y, 1)[0]) if len(mine) > 1 else None
    return found


def _cells(values: Any, *, is_number: bool, name: str) -> Any:
    if is_number:
        return np.round(np.clip(values, -4, 4), 2)
    if name == "target":
        return np.array(["no", "yes"])[(values > 0.8).astype(int)]
    return np.array(_LEVELS)[np.searchsorted([-1.2, -0.4, 0.4, 1.2], values)]


def _add(benchmark: Benchmark, folder: Path, stage: str, rows: int, seconds: float) -> None:
    target = folder / f"{stage}.json"
    found = answer_of_module(
        "benchmarks.table_scale_stages", stage, str(folder), target=target, seconds=int(seconds)
    )
    benchmark.results.append({"rows": rows, "stage": stage, **found})
    click.echo(
        f"  {found['seconds']:.1f} s, {found['cpu_seconds']:.1f} CPU s, "
        f"{found['peak_bytes'] / 2**20:.0f} MiB",
        err=True,
    )


if __name__ == "__main__":
    main()
