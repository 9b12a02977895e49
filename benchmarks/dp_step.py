"""What does a DP-SGD step cost? Ours, Opacus' two ways, vmap, and the plain step, interleaved.

One step is: gradients of a fixed batch of persons, clipping, noise, and one Adam update, on the
project's U-Net with a squared error, in micro-batches of the same number of rows for everybody. The
data are random; nothing is learnt. K noise draws of an image make K rows. Ours and vmap average
them before the clip, as DP-SGD over persons must. Opacus has no such thing: its methods take the
rows as K·B records and clip each, so at K > 1 they are timed at another, easier task. `plain` averages
all rows and neither clips nor noises. All keep freed memory in the process, as our training does.

Times are of whole steps in one process, method after method in every round, so that whatever else
the machine does meets all of them; on a machine that does much else, `cpu_ratio_to_plain`, of
processor time, says more than the clock. `peak_bytes` is what one step adds to the memory of a fresh
process that already holds network and data (on a GPU: to allocated memory). `gradient_max_error` is
the largest deviation of our clipped sum from a float64 loop over persons, as a share of the largest
value. Not shown: sampling, reading data, anything at a scale where a network fills the machine.
"""

import math
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.dp_step_methods import METHODS, Case, Step, gradient_max_error, peak_bytes, stepper
from benchmarks.envelope import Benchmark, quantile
from benchmarks.refusals import check_device, check_writable
from training.held_memory import freed_memory_held

PIXELS = (28, 64, 128)
DRAWS = (1, 4, 16)
_LEAST_ROUNDS = 3


@click.command()
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--persons", type=click.IntRange(1), default=64, show_default=True)
@click.option("--physical-batch", type=click.IntRange(1), default=64, show_default=True)
@click.option("--features", type=click.IntRange(8), default=32, show_default=True)
@click.option("--pixels", type=click.IntRange(1), multiple=True, default=PIXELS, show_default=True)
@click.option("--draws", type=click.IntRange(1), multiple=True, default=DRAWS, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=15, show_default=True, help="At most.")
@click.option(
    "--seconds-per-case",
    type=click.FloatRange(0),
    default=20.0,
    show_default=True,
    help="Then no more rounds.",
)
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), default="float32")
@click.option("--compiled", is_flag=True, help="Compile the network, for ours and for plain.")
def main(  # noqa: PLR0913, PLR0917 - click passes options by name
    out: Path,
    seed: int,
    device: str,
    persons: int,
    physical_batch: int,
    features: int,
    pixels: tuple[int, ...],
    draws: tuple[int, ...],
    rounds: int,
    seconds_per_case: float,
    precision: str,
    compiled: bool,  # noqa: FBT001 - as above
) -> None:
    """Measure steps and write OUT."""
    check_device(device)
    check_writable(file=out)
    benchmark = Benchmark("dp_step", seed=seed)
    benchmark.extra |= {"gradient_max_error": None, "gradient_max_error_reason": "not come to yet"}
    for size in pixels:
        for count in draws:
            case = Case(
                pixels=size,
                noise_draws=count,
                persons=persons,
                physical_batch=physical_batch,
                features=features,
                device=device,
                precision=precision,
                compiled=compiled,
                seed=seed,
            )
            click.echo(f"measuring {size} px, {count} draws ...", err=True)
            work = partial(_add_case, benchmark, case, rounds=rounds, seconds=seconds_per_case)
            benchmark.attempt(f"{size} px, {count} draws", work)
            benchmark.write(out)
    if not benchmark.attempt("gradient_max_error", partial(_add_error, benchmark, seed)):
        benchmark.extra["gradient_max_error_reason"] = benchmark.failures[-1]["reason"]
    benchmark.write(out)
    if not any(row["ran"] for row in benchmark.results):
        raise click.ClickException("No method ran; the document says why.")


@freed_memory_held()
def _add_case(benchmark: Benchmark, case: Case, *, rounds: int, seconds: float) -> None:
    for row in _measure(case, rounds=rounds, seconds=seconds):
        benchmark.results.append(row)
        click.echo(_line(row), err=True)


def _measure(case: Case, *, rounds: int, seconds: float) -> Iterator[dict[str, Any]]:
    steppers, reasons = {}, {}
    for method in METHODS:
        try:
            steppers[method] = stepper(method, case)
            steppers[method]()
        except Exception as error:  # noqa: BLE001 - a peer that cannot do it goes on record
            steppers.pop(method, None)
            reasons[method] = f"{type(error).__name__}: {error}"
    times: dict[str, list[float]] = {method: [] for method in steppers}
    work: dict[str, list[float]] = {method: [] for method in steppers}
    started = time.perf_counter()
    for done in range(rounds):
        if done >= _LEAST_ROUNDS and time.perf_counter() - started > seconds:
            break
        for method, step in steppers.items():
            wall, processor = _timed(step, case)
            times[method].append(wall)
            work[method].append(processor)
    steppers.clear()
    memory = {method: _peak_in_fresh_process(method, case) for method in times}
    for method in METHODS:
        yield case.row(method) | {
            "seconds_median": quantile(times.get(method, []), 0.5),
            "seconds_p10": quantile(times.get(method, []), 0.1),
            "seconds_p90": quantile(times.get(method, []), 0.9),
            "cpu_seconds_median": quantile(work.get(method, []), 0.5),
            "cpu_ratio_to_plain": _ratio(work, method),
            "rounds": len(times.get(method, [])),
            "ratio_to_plain": _ratio(times, method),
            "ran": method in times,
            **_peak(memory.get(method)),
            **_reasons(method, reasons),
        }


def _peak(found: int | str | None) -> dict[str, Any]:
    """Return the memory of a step, or null with the reason."""
    if isinstance(found, int):
        return {"peak_bytes": found}
    return {"peak_bytes": None, "peak_bytes_reason": found or "the method did not run"}


def _reasons(method: str, reasons: dict[str, str]) -> dict[str, Any]:
    """Return why a method, or what it is compared with, did not run."""
    told: dict[str, Any] = {"reason": reasons.get(method)}
    if method in reasons or "plain" in reasons:
        told["ratio_to_plain_reason"] = "the method or the plain step did not run"
    return told


def _ratio(times: dict[str, list[float]], method: str) -> float | None:
    """Return the median over rounds of time / plain's time in the same round."""
    if method not in times or "plain" not in times:
        return None
    pairs = zip(times[method], times["plain"], strict=True)
    return quantile([mine / plain for mine, plain in pairs], 0.5)


def _timed(step: Step, case: Case) -> tuple[float, float]:
    """Return the step's seconds by the clock and of all processor cores together."""
    started, worked = time.perf_counter(), time.process_time()
    step()
    if case.device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - started, time.process_time() - worked


def _peak_in_fresh_process(method: str, case: Case) -> int | str:
    """Return the bytes, or why they are not known."""
    # A server that has imported but computed nothing forks quickly, and its children start clean.
    context = multiprocessing.get_context("forkserver" if case.device == "cpu" else "spawn")
    context.set_forkserver_preload(["benchmarks.dp_step_methods"])
    try:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(peak_bytes, method, case).result()
    except Exception as error:  # noqa: BLE001 - its time was measured; its memory stays unknown
        return f"{type(error).__name__}: {error}"


def _add_error(benchmark: Benchmark, seed: int) -> None:
    error = gradient_max_error(seed)
    if not math.isfinite(error):
        raise ValueError(f"The deviation from the float64 loop is {error}.")
    benchmark.extra["gradient_max_error"] = error
    del benchmark.extra["gradient_max_error_reason"]


def _line(row: dict[str, Any]) -> str:
    if not row["ran"]:
        return f"  {row['method']:13} did not run: {row['reason'][:80]}"
    ratio, of_work, peak = (row[k] for k in ("ratio_to_plain", "cpu_ratio_to_plain", "peak_bytes"))
    beside = "" if ratio is None else f", {ratio:5.2f} × plain ({of_work:.2f} in processor time)"
    memory = "memory unknown" if peak is None else f"{peak / 2**20:6.0f} MiB"
    return f"  {row['method']:13} {row['seconds_median']:7.3f} s{beside}, {memory}"


if __name__ == "__main__":
    main()
