"""`python -m workers.audit_files`: audit files that were never in the service (`kaima audit`).

Three sets are given: records a generator was trained on, records it never saw, and what it made.
The same battery, self-test and policy run as for a release (`privacy.given_sets` says how the sets
become evidence). The report shows real records: it is written with mode 0600.

Exit code: 0 PASS-PROVEN or PASS-EMPIRICAL, 1 FAIL, 3 INCONCLUSIVE, 4 INVALID, 2 wrong usage, 5 an
error inside. Whatever happens, no other way of ending looks like a verdict.
"""

import os
import sys
import zipfile
from pathlib import Path
from typing import Any, NoReturn

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from privacy.audits import run_battery
from privacy.errors import InvalidParameter, PrivacyError
from privacy.evidence import Evidence, SplitOrigin
from privacy.given_sets import RecordSet, evidence_of_sets, record_set, same_ids
from privacy.mechanisms import PrivacyTarget
from privacy.policy import Depth, load_policy
from privacy.report import AuditReport
from privacy.statements import unit_word
from workers.report.render import render_report
from workers.report.words import STATUS_WORDS, gate_sentence, gate_title, headline

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
MOST_PIXELS = 4096 * 4096
EXIT_CODES = {"FAIL": 1, "INCONCLUSIVE": 3, "INVALID": 4}
USAGE = 2
INSIDE = 5
INTERRUPTED = 130
SCORES = "score_"
"""An npz entry `score_NAME` holds the generator's own scores of its records."""
NUMBERED_APART = (
    "{count} person ids stand in more than one set. They were read as numbered set by set, so as "
    "different persons; if they are the same persons, --shared-ids leaves them out."
)


def read_set(path: Path) -> RecordSet:
    """Read a folder of images or an npz with `images` or a 2-D `table`.

    An npz may hold `person_ids`, `labels` and `score_NAME`, the generator's own scores. Without
    ids every record is a unit of its own; without labels all are the same.
    Raises: InvalidParameter naming the file and what is wrong with it.
    """
    if path.is_dir():
        return record_set(_read_folder(path), name=str(path))
    if path.suffix == ".npz" and path.is_file():
        return _read_npz(path)
    raise InvalidParameter(
        f"{path} was refused: it is neither a folder of images nor an .npz file with `images` or "
        "a 2-D `table`."
    )


def _read_folder(path: Path) -> NDArray[np.generic]:
    files = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file() and not file.is_symlink()
    )
    if not files:
        raise InvalidParameter(
            f"{path} was refused: it holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})."
        )
    images = [_read_image(file) for file in files]
    first = images[0]
    for file, image in zip(files, images, strict=True):
        if image.shape != first.shape or image.dtype != first.dtype:
            raise InvalidParameter(
                f"{file} was refused: it is {image.shape} {image.dtype}, the first image is "
                f"{first.shape} {first.dtype}. Bring all images to one size and depth."
            )
    return np.stack(images)


def _read_image(file: Path) -> NDArray[np.generic]:
    try:
        with Image.open(file) as image:
            if image.width * image.height > MOST_PIXELS:
                raise InvalidParameter(
                    f"{file} was refused: {image.width} x {image.height} pixels are more than "
                    f"{MOST_PIXELS}. Scale it down."
                )
            is_deep = image.mode.startswith("I")
            return np.asarray(image if is_deep else image.convert("L"))
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, InvalidParameter):
            raise
        raise InvalidParameter(f"{file} was refused: it cannot be read as an image.") from error


def _read_npz(path: Path) -> RecordSet:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise InvalidParameter(f"{path} was refused: it cannot be read as an npz.") from error
    if {"images", "table"} <= found.keys():
        raise InvalidParameter(
            f"{path} was refused: it holds `images` and `table`, and this command audits one of them. "
            "Give each in a file of its own; rows with their images are audited together by the "
            "service, or by privacy.audits.run_battery."
        )
    records = found.get("images", found.get("table"))
    if records is None or records.ndim != (3 if "images" in found else 2) or not len(records):
        raise InvalidParameter(
            f"{path} was refused: it needs `images` of shape (records, height, width) or `table` "
            f"of shape (records, columns); it holds {', '.join(sorted(found)) or 'nothing'}."
        )
    return record_set(
        records,
        persons=found.get("person_ids"),
        labels=found.get("labels"),
        scores={
            name.removeprefix(SCORES): values
            for name, values in found.items()
            if name.startswith(SCORES)
        },
        name=str(path),
    )


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        os.fchmod(stream.fileno(), 0o600)
        stream.write(text)


@click.command()
@click.option("--members", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--holdout", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--synthetic", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--reference", type=click.Path(path_type=Path, exists=True))
@click.option("--tier", default="registered", show_default=True)
@click.option(
    "--depth", type=click.Choice([d.value for d in Depth]), default="quick", show_default=True
)
@click.option(
    "--split",
    type=click.Choice([origin.value for origin in SplitOrigin]),
    default="unknown",
    show_default=True,
)
@click.option("--epsilon", type=click.FloatRange(min=0, min_open=True))
@click.option(
    "--delta",
    type=click.FloatRange(min=0, max=1, min_open=True, max_open=True),
    default=1e-5,
    show_default=True,
)
@click.option("--shared-ids", is_flag=True)
@click.option(
    "--report", "report_path", type=click.Path(dir_okay=False, path_type=Path), required=True
)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--attempt", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
def main(
    *,
    report_path: Path,
    json_path: Path | None,
    tier: str,
    depth: str,
    attempt: int,
    seed: int,
    **given: Any,
) -> None:
    """Audit SYNTHETIC against records that it was made from and records that it was not."""
    rng = np.random.default_rng(seed)
    load_policy(None).tier(tier)  # refused now, not after reading
    evidence, notes = gather_evidence(rng=rng, **given)
    for path in (report_path, json_path):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            check_writable(path)
    if depth == Depth.FULL.value:
        evidence = with_embedding(evidence, seed=seed)
    report = run_with_bar(
        evidence, tier=tier, depth=Depth(depth), attempt=attempt, seed=seed, rng=rng
    )
    report = report.model_copy(update={"disclaimers": (*notes, *report.disclaimers)})
    context: dict[str, object] = {"title": "Audit of files", "tier": tier}
    write_private(report_path, render_report(report, evidence=evidence, context=context))
    if json_path is not None:
        write_private(json_path, report.model_dump_json(indent=2))
    explain(report)
    click.echo(f"Report, with real records in it and not for release: {report_path}")
    sys.exit(EXIT_CODES.get(report.verdict.value, 0))


def gather_evidence(  # noqa: PLR0913 - the options of the command
    *,
    members: Path,
    holdout: Path,
    synthetic: Path,
    reference: Path | None,
    split: str,
    epsilon: float | None,
    delta: float,
    shared_ids: bool,
    rng: np.random.Generator,
) -> tuple[Evidence, tuple[str, ...]]:
    """Read the sets and join them; return what a reader must know of how they were read as well."""
    inside, outside = read_set(members), read_set(holdout)
    known = None if reference is None else read_set(reference)
    evidence = evidence_of_sets(
        inside,
        outside,
        read_set(synthetic),
        reference=known,
        rng=rng,
        split=SplitOrigin(split),
        target=None if epsilon is None else PrivacyTarget(epsilon=epsilon, delta=delta),
        ids_are_shared=shared_ids,
    )
    count = same_ids([inside, outside, *([known] if known is not None else [])])
    notes = (NUMBERED_APART.format(count=count),) if count and not shared_ids else ()
    for note in notes:
        click.echo(note, err=True)
    return evidence, notes


def with_embedding(evidence: Evidence, *, seed: int) -> Evidence:
    """Learn a copy embedding, which takes a while, and show how far it is."""
    from workers.copy_network import with_copy_network  # noqa: PLC0415  (torch is slow to import)

    with _bar() as bar:
        task = bar.add_task("Learning to recognise copies, on reference records only", total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        return with_copy_network(evidence, seed=seed, progress=show)


def check_writable(path: Path) -> None:
    """Refuse a file that could not be written after the audit.  Raises: OSError naming it."""
    existed = path.exists()
    with path.open("ab"):
        pass
    if not existed:
        path.unlink()


def explain(report: AuditReport) -> None:
    """Print the verdict, then one line for each gate."""
    unit = unit_word(report.unit)
    click.echo(f"{report.verdict.value}: {headline(report)}")
    for gate in report.gates:
        status, _ = STATUS_WORDS[gate.status]
        click.echo(f"  {status:<10} {gate_title(gate, unit)}. {gate_sentence(gate, unit)}")


def run() -> NoReturn:
    """Run the command; end with a verdict's exit code only where there is a verdict."""
    try:
        sys.exit(main.main(standalone_mode=False))
    except (KeyboardInterrupt, click.Abort):
        _end("The audit was interrupted; there is no verdict.", INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(USAGE)
    except PrivacyError as error:
        _end(str(error), USAGE)
    except OSError as error:
        _end(f"{error.filename or 'A file'} was refused: {error.strerror or error}.", USAGE)
    except MemoryError:
        _end("The audit was stopped: the sets do not fit into memory. Give fewer records.", INSIDE)
    except Exception as error:  # noqa: BLE001 - exit code 1 would read as FAIL
        _end(f"The audit failed inside ({type(error).__name__}: {error}); no verdict.", INSIDE)


def _end(sentence: str, code: int) -> NoReturn:
    click.echo(sentence, err=True)
    sys.exit(code)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def run_with_bar(
    evidence: Evidence,
    *,
    tier: str,
    depth: Depth,
    attempt: int,
    seed: int,
    rng: np.random.Generator,
) -> AuditReport:
    """Run the battery and show how far it is."""
    policy = load_policy(None)
    with _bar() as bar:
        task = bar.add_task("Auditing", total=1000)

        def show(stage: str, step: int, total: int) -> None:
            bar.update(task, description=stage, completed=step, total=total)

        return run_battery(
            evidence,
            policy=policy,
            tier=tier,
            attempt=attempt,
            rng=rng,
            progress=show,
            depth=depth,
            seed=seed,
        )


if __name__ == "__main__":
    run()
