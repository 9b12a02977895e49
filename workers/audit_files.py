"""`python -m workers.audit_files`: audit files that were never in the service (`kaima audit`).

Three sets are given: records a generator was trained on, records it never saw, and what it made.
The same battery, self-test and policy run as for a release. Members are spread by fair coins over
AUDIT_IN and TRAIN, the holdout over AUDIT_OUT and REFERENCE_B, so that supervised attacks learn on
other persons than they are judged on. The report shows real records: it is written with mode 0600.

Exit code: 0 PASS-PROVEN or PASS-EMPIRICAL, 1 FAIL, 3 INCONCLUSIVE, 4 INVALID, 2 wrong usage, 5 an
error inside. Whatever happens, no other way of ending looks like a verdict.
"""

import hashlib
import os
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from privacy.audits import run_battery
from privacy.errors import InvalidParameter, PrivacyError
from privacy.evidence import Arm, Evidence
from privacy.mechanisms import UnitOfPrivacy
from privacy.policy import load_policy
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
LARGEST_VALUE = 1e100
"""Squared distances of larger values overflow."""
_HALF = 0.5


@dataclass(frozen=True, eq=False)
class FileSet:
    """Records (records, height, width) or (records, columns); persons (records,), counted from 0."""

    records: NDArray[np.generic]
    persons: NDArray[np.integer]
    labels: NDArray[np.integer]

    @property
    def person_count(self) -> int:
        """Return how many persons there are."""
        return int(self.persons.max()) + 1 if len(self.persons) else 0


def read_set(path: Path) -> FileSet:
    """Read a folder of images or an npz with `images` or a 2-D `table`.

    An npz may hold `person_ids` and `labels`; without them every record is a person of its own,
    and all labels are the same.
    Raises: InvalidParameter naming the file and what is wrong with it.
    """
    if path.is_dir():
        return _without_persons(_read_folder(path))
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


def _read_npz(path: Path) -> FileSet:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise InvalidParameter(f"{path} was refused: it cannot be read as an npz.") from error
    records = found.get("images", found.get("table"))
    if records is None or records.ndim != (3 if "images" in found else 2) or not len(records):
        raise InvalidParameter(
            f"{path} was refused: it needs `images` of shape (records, height, width) or `table` "
            f"of shape (records, columns); it holds {', '.join(sorted(found)) or 'nothing'}."
        )
    records = _numbers(path, records)
    plain = _without_persons(records)
    return FileSet(
        records=records,
        persons=_codes(path, "person_ids", found.get("person_ids"), plain.persons),
        labels=_codes(path, "labels", found.get("labels"), plain.labels, keep_integers=True),
    )


def _numbers(path: Path, records: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the records as numbers that distances are defined for.

    Raises: InvalidParameter naming the first value that is none.
    """
    if records.dtype == np.bool_:
        return records.astype(np.uint8)
    if records.dtype.kind not in "iuf":
        raise InvalidParameter(
            f"{path} was refused: its values are of type {records.dtype}. Give whole or real "
            "numbers; code categories as numbers."
        )
    if not records[0].size:
        raise InvalidParameter(f"{path} was refused: its records hold no values.")
    fits = np.isfinite(records) & (np.abs(records) <= LARGEST_VALUE)
    if not fits.all():
        first = tuple(int(place) for place in np.argwhere(~fits)[0])
        names = ("row", "column") if records.ndim == 2 else ("image", "row", "column")
        where = ", ".join(f"{name} {place}" for name, place in zip(names, first, strict=True))
        raise InvalidParameter(
            f"{path} was refused: the value at {where} (counted from 0) is {records[first]}. "
            f"Values must be finite and at most {LARGEST_VALUE:g}; fill in or leave out what is "
            "missing, in every set alike."
        )
    return records


def _without_persons(records: NDArray[np.generic]) -> FileSet:
    count = len(records)
    return FileSet(records, np.arange(count), np.zeros(count, dtype=np.int64))


def _codes(
    path: Path,
    name: str,
    values: NDArray[np.generic] | None,
    default: NDArray[np.integer],
    *,
    keep_integers: bool = False,
) -> NDArray[np.integer]:
    if values is None:
        return default
    values = values.reshape(-1)
    if len(values) != len(default):
        raise InvalidParameter(
            f"{path} was refused: {name} has {len(values)} entries for {len(default)} records."
        )
    if values.dtype.kind not in "biufSU" or (values.dtype.kind == "f" and np.isnan(values).any()):
        raise InvalidParameter(
            f"{path} was refused: {name} must be numbers or text without gaps, and is of type "
            f"{values.dtype}. Give every record one."
        )
    if keep_integers and np.issubdtype(values.dtype, np.integer):
        return values.astype(np.int64)
    codes: NDArray[np.int64] = np.unique(values, return_inverse=True)[1].astype(np.int64)
    return codes


def gather_evidence(
    members: FileSet,
    holdout: FileSet,
    synthetic: FileSet,
    *,
    reference: FileSet | None,
    rng: np.random.Generator,
) -> Evidence:
    """Join the sets into the evidence that the service's audit gathers.

    With `reference`, its persons are REFERENCE_A; without, a quarter of the holdout is.
    Raises: InvalidParameter if the sets hold records of different shape, or the same records.
    """
    given = [members, holdout] + ([reference] if reference else [])
    _check_shapes([*given, synthetic])
    arms = [
        _draw(rng, members.person_count, Arm.AUDIT_IN, Arm.TRAIN),
        _draw(rng, holdout.person_count, Arm.AUDIT_OUT, Arm.REFERENCE_B),
    ]
    if reference is not None:
        arms.append(np.full(reference.person_count, Arm.REFERENCE_A, dtype=np.int8))
    else:
        clean = np.flatnonzero(arms[1] == Arm.REFERENCE_B)
        arms[1][clean[rng.random(len(clean)) < _HALF]] = Arm.REFERENCE_A
    offsets = np.cumsum([0, *(item.person_count for item in given)])
    people = int(offsets[-1])
    persons = [item.persons + start for item, start in zip(given, offsets, strict=False)]
    has_people = any(len(item.persons) != item.person_count for item in given)
    return Evidence(
        modality="image" if members.records.ndim == 3 else "table",
        unit=UnitOfPrivacy.PERSON if has_people else UnitOfPrivacy.RECORD,
        records=np.concatenate([item.records for item in given]),
        labels=np.concatenate([item.labels for item in given]),
        persons=np.concatenate(persons),
        arms=np.concatenate(arms),
        folds=_draw(rng, people, 1, 2),
        excluded=_with_a_double(given, offsets),
        samples=synthetic.records,
        sample_labels=synthetic.labels,
    )


def _draw(rng: np.random.Generator, count: int, heads: int, tails: int) -> NDArray[np.int8]:
    return np.where(rng.random(count) < _HALF, heads, tails).astype(np.int8)


def _check_shapes(sets: Sequence[FileSet]) -> None:
    first = sets[0].records
    for other in sets[1:]:
        if other.records.shape[1:] != first.shape[1:]:
            raise InvalidParameter(
                f"The sets were refused: one holds records of shape {first.shape[1:]}, another of "
                f"{other.records.shape[1:]}. Bring all to one shape."
            )


def _with_a_double(sets: Sequence[FileSet], offsets: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return which persons have a record that another person has too: they are never scored.

    Raises: InvalidParameter if the whole holdout is among the members.
    """
    owner: dict[bytes, int] = {}
    doubled = np.zeros(int(offsets[-1]), dtype=np.bool_)
    for item, start in zip(sets, offsets, strict=False):
        for record, person in zip(item.records, item.persons + start, strict=True):
            first = owner.setdefault(_record_digest(record), int(person))
            if first != person:
                doubled[[first, int(person)]] = True
    if doubled[offsets[1] : offsets[2]].all():
        raise InvalidParameter(
            "The holdout was refused: every person in it has a record that somebody else has too. "
            "Give records that the generator never saw."
        )
    return doubled


def _record_digest(record: NDArray[np.generic]) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(record).tobytes()).digest()


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
    "--report", "report_path", type=click.Path(dir_okay=False, path_type=Path), required=True
)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
def main(
    *,
    members: Path,
    holdout: Path,
    synthetic: Path,
    reference: Path | None,
    tier: str,
    report_path: Path,
    json_path: Path | None,
    seed: int,
) -> None:
    """Audit SYNTHETIC against records that it was made from and records that it was not."""
    rng = np.random.default_rng(seed)
    evidence = gather_evidence(
        read_set(members),
        read_set(holdout),
        read_set(synthetic),
        reference=None if reference is None else read_set(reference),
        rng=rng,
    )
    for path in (report_path, json_path):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)  # refused now, not after the audit
    report = run_with_bar(evidence, tier=tier, rng=rng)
    context: dict[str, object] = {"title": "Audit of files", "tier": tier}
    write_private(report_path, render_report(report, evidence=evidence, context=context))
    if json_path is not None:
        write_private(json_path, report.model_dump_json(indent=2))
    explain(report)
    click.echo(f"Report, with real records in it and not for release: {report_path}")
    sys.exit(EXIT_CODES.get(report.verdict.value, 0))


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


def run_with_bar(evidence: Evidence, *, tier: str, rng: np.random.Generator) -> AuditReport:
    """Run the battery and show how far it is."""
    policy = load_policy(None)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task("Auditing", total=1000)

        def show(stage: str, step: int, total: int) -> None:
            bar.update(task, description=stage, completed=step, total=total)

        return run_battery(evidence, policy=policy, tier=tier, attempt=1, rng=rng, progress=show)


if __name__ == "__main__":
    run()
