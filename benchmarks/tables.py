"""How good are synthetic tables at equal epsilon? Ours and other projects', judged by one scorer.

Every method learns from the same persons of the same coded table under the same (epsilon, delta), draws as
many rows, and is judged against the rest of the persons: distances of counts of one, two and three columns
(TVD), classifiers taught on synthetic and judged on real rows (TSTR), whether rows can be told from real
ones (C2ST), broken constraints, processor time and memory. Beside them stand real rows: other persons, the
same persons drawn again, columns drawn independently, and the classifiers taught on real rows.

What it does not show: the peers' own binning and their learning of levels (they are told both, without
cost), and settings other than their defaults. Named tables are public; their schemas were written by hand.
Numbers are measured on real rows without noise.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks import table_sets
from benchmarks.envelope import Benchmark
from benchmarks.peer_environments import answer_of, answer_of_module, kept_environment
from benchmarks.refusals import Refused, check_writable, refusing
from benchmarks.table_scores import as_row, real_lines, score, summarised
from benchmarks.table_sets import TableSet
from privacy.errors import InvalidParameter
from training import generators
from training.utility.tables import Effort
from training.utility.tables.material import divided

FLOOR = "independent_columns"
TRAIN_SHARE = 0.75
DELTAS = {"adult": 1e-6}
_EFFORT = Effort(bootstraps=50)
_BROKEN_BESIDE_CPU_TORCH = ("torchvision", "torchaudio", "triton")


@dataclass(frozen=True)
class Peer:
    """How another project's tool is installed, and what is to be known about its numbers."""

    installs: tuple[str, ...]
    without: tuple[str, ...] = ()
    note: str = ""


_SMARTNOISE = ("smartnoise-synth==1.0.8", "packaging")
_MOSTLY = ("mostlyai[local]==6.2.0",)
PEERS = {
    "smartnoise_mst": Peer(_SMARTNOISE, note="its sampler comes from mbi below 2"),
    "smartnoise_aim": Peer(_SMARTNOISE, note="its sampler comes from mbi below 2"),
    "dpmm_mst": Peer(("dpmm==0.1.9",)),
    "dpmm_aim": Peer(("dpmm==0.1.9",)),
    "mbi_mst": Peer(("mbi==2.0.0", "pandas"), note="the wheel holds inference; the plan is MST's"),
    "mostlyai": Peer(
        _MOSTLY,
        without=_BROKEN_BESIDE_CPU_TORCH,
        note="noise 2.0 set by hand; it trains until its own accountant has spent epsilon, and "
        "choosing its checkpoint by a validation loss is not accounted for",
    ),
}


@dataclass(frozen=True)
class Request:
    """What every method is asked for."""

    epsilon: float
    delta: float
    minutes: float
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)


@click.command()
@click.option("--data", required=True, help="flchain, support2, adult, or PATH of CSV or Parquet.")
@click.option("--schema", "schema_file", type=click.Path(path_type=Path), help="TOML, of a PATH.")
@click.option("--epsilon", type=click.FloatRange(0, 100, min_open=True), required=True)
@click.option("--delta", type=click.FloatRange(0, 1, min_open=True, max_open=True))
@click.option(
    "--methods", default="all", show_default=True, help="all, none, or names with commas."
)
@click.option("--peers", default="none", show_default=True, help="all, none, or names with commas.")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True)
@click.option("--peer-seeds", type=click.IntRange(1), default=1, show_default=True)
@click.option("--minutes", type=click.FloatRange(0, min_open=True), default=15, show_default=True)
@click.option("--set", "settings", multiple=True, help="METHOD.FIELD=JSON of a method's Config.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), required=True)
def main(**options: Any) -> None:
    """Measure methods on one table and write the document."""
    check_writable(file=options["out"])
    with refusing():
        names = _ours(options["methods"])
        peers = _named("--peers", options["peers"], tuple(PEERS))
        table = table_sets.load(options["data"], schema_file=options["schema_file"])
        taught, judged = divided(table.persons, share=TRAIN_SHARE, seed=0)
    delta = options["delta"] or DELTAS.get(table.name, 1e-5)
    request = Request(
        options["epsilon"], delta, options["minutes"], _settings(options["settings"], names)
    )
    benchmark = Benchmark("tables", seed=options["seed"])
    run = _Run(benchmark, request, table.part(taught), table.part(judged))
    run.describe(table)
    jobs = [(name, seed) for name in names for seed in range(options["seeds"])]
    jobs += [(name, seed) for name in peers for seed in range(options["peer_seeds"])]
    for name, seed in jobs:
        click.echo(f"{name}, seed {options['seed'] + seed} ...", err=True)
        what = f"{name}, seed {options['seed'] + seed}"
        benchmark.attempt(what, partial(run.measure, name, options["seed"] + seed))
        run.summarise()
        benchmark.write(options["out"])
    for failure in benchmark.failures:
        click.echo(f"not measured: {failure['what']}: {failure['reason']}", err=True)
    if not benchmark.results:
        raise click.ClickException("Nothing was measured.")


def _ours(given: str) -> tuple[str, ...]:
    """Return our generators of tables that an option names; only those are loaded."""
    if given == "all":
        found = generators.available(modality="table")
        return tuple(sorted(found, key=lambda name: (name != FLOOR, name)))
    names = _named("--methods", given, generators.available())
    pictures = [n for n in names if generators.modality_of(generators.load(n)) != "table"]
    if pictures:
        raise InvalidParameter(
            f"--methods {', '.join(pictures)} was refused: it makes images. Name methods for tables."
        )
    return names


@dataclass
class _Run:
    """One run of the benchmark: the parts of the table, and what is found."""

    benchmark: Benchmark
    request: Request
    train: TableSet
    test: TableSet

    def describe(self, table: TableSet) -> None:
        """Note what is measured on."""
        self.benchmark.extra |= {
            "data": table.name,
            "columns": len(table.schema.columns),
            "rows": {"train": len(self.train.codes), "test": len(self.test.codes)},
            "persons": {part: int(one.persons.max()) + 1 for part, one in self._parts().items()},
            "declared_train_count": self.train.schema.declared_count,
            "unit": table.schema.unit.value,
            "epsilon": self.request.epsilon,
            "delta": self.request.delta,
            "distances": "mean over combinations of columns, from the rows that were trained on",
            "peers": {name: peer.note for name, peer in PEERS.items()},
        }

    def _parts(self) -> dict[str, TableSet]:
        return {"train": self.train, "test": self.test}

    def measure(self, name: str, seed: int) -> None:
        """Fit, draw and judge one method with one seed."""
        with tempfile.TemporaryDirectory(prefix="tables-") as path:
            folder = Path(path)
            self._ask(folder, name, seed)
            told = self._answer(folder, name)
            synthetic = np.load(folder / "synthetic.npy", allow_pickle=False)
            whose = folder / "synthetic_persons.npy"
            persons = np.load(whose, allow_pickle=False) if whose.exists() else None
        found = score(
            synthetic,
            self.train,
            self.test,
            epsilon=self.request.epsilon,
            effort=_EFFORT,
            persons=persons,
        )
        row = {
            "method": name,
            "ours": name not in PEERS,
            "seed": seed,
            "epsilon_requested": self.request.epsilon,
            "delta": self.request.delta,
            "rows": len(synthetic),
            **told,
            "seconds": told["fit_seconds"] + told["sample_seconds"],
            "cpu_seconds": told["fit_cpu_seconds"] + told["sample_cpu_seconds"],
            **as_row(found),
        }
        self.benchmark.results.append(row)
        self.benchmark.extra["real"] = real_lines(found)
        click.echo(f"  {_line(row)}", err=True)

    def _ask(self, folder: Path, name: str, seed: int) -> None:
        asked = {
            "epsilon": self.request.epsilon,
            "delta": self.request.delta,
            "minutes": self.request.minutes,
            "seed": seed,
            "rows": len(self.train.codes),
            "sizes": list(self.train.schema.sizes),
            "schema": self.train.schema.model_dump(mode="json"),
            "settings": self.request.settings.get(name, {}),
        }
        (folder / "request.json").write_text(json.dumps(asked), encoding="utf-8")
        np.save(folder / "codes.npy", self.train.codes)
        np.save(folder / "persons.npy", self.train.persons)

    def _answer(self, folder: Path, name: str) -> dict[str, Any]:
        target, seconds = folder / "answer.json", int(60 * self.request.minutes)
        if name not in PEERS:
            return dict(
                answer_of_module(
                    "benchmarks.table_fits", name, str(folder), target=target, seconds=seconds
                )
            )
        peer = PEERS[name]
        # The name of the environment is the tool's, which several methods may share.
        tool = peer.installs[0].split("=")[0].split("[")[0]
        python, _ = kept_environment(tool, peer.installs, without=peer.without)
        return dict(
            answer_of(python, "table_peers.py", name, str(folder), target=target, seconds=seconds)
        )

    def summarise(self) -> None:
        """Write means over seeds, as far as there are any."""
        rows = self.benchmark.results
        self.benchmark.extra["summary"] = {
            name: summarised([row for row in rows if row["method"] == name])
            for name in dict.fromkeys(row["method"] for row in rows)
        }


def _line(row: dict[str, Any]) -> str:
    scores = [
        f"{next(iter(metrics.values()))['value'] or 0:.3f}"
        for learners in row["tstr"].values()
        for metrics in learners.values()
    ]
    return (
        f"TVD {row['tvd_1']:.3f} {row['tvd_2']:.3f} {row.get('tvd_3', 0.0):.3f}, TSTR {' '.join(scores)}, "
        f"C2ST {row['c2st_auc'] or 0:.2f}, violations {row['any_violation']:.3f}, "
        f"{row['cpu_seconds']:.1f} CPU s, {row['peak_bytes'] / 1e6:.0f} MB"
    )


def _named(option: str, given: str, known: Sequence[str]) -> tuple[str, ...]:
    """Return the methods that an option names.  Raises: InvalidParameter naming them."""
    if given in {"all", "none"}:
        return tuple(known) if given == "all" else ()
    names = tuple(dict.fromkeys(part.strip() for part in given.split(",")))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InvalidParameter(
            f"{option} {', '.join(unknown)} was refused: there are {', '.join(known)}, all and none."
        )
    return names


def _settings(given: Sequence[str], methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for text in given:
        place, sign, value = text.partition("=")
        method, dot, name = place.partition(".")
        try:
            decoded = json.loads(value)
        except json.JSONDecodeError:
            decoded = value
        if not sign or not dot or method not in methods:
            raise Refused(
                f"--set {text} was refused: write METHOD.FIELD=VALUE with one of "
                f"{', '.join(methods) or 'the methods'}."
            )
        found.setdefault(method, {})[name] = decoded
    return found


if __name__ == "__main__":
    main()
