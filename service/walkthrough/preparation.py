"""Bring about what a walkthrough uploads: phantoms that are made, or the owner's own file.

Says what is declared public, and by whom.
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from privacy.mechanisms import UnitOfPrivacy
from privacy.table_schema import TableSchema
from service.walkthrough.declaration import (
    Declaration,
    UploadRefused,
    declare,
    declare_table,
)
from service.walkthrough.display import Display

OUT = Path("build/demo")
PHANTOM_PERSONS = 2500
PHANTOM_LABEL = "kl_grade"
DEFAULT_GENERATOR = "diffusion"
TABLE_GENERATOR = "aim"
JOINT_GENERATOR = "rows_then_images"


@dataclass(frozen=True)
class Example:
    """Phantoms that are made in place of an owner's file, with the schema that declares them."""

    module: str
    upload: str
    what: str
    persons: int


EXAMPLES = {
    "example": Example(
        "training.phantom_patients", "patients.csv", "phantom patients", persons=6000
    ),
    "example-images": Example(
        "training.phantom_clinic",
        "clinic.zip",
        "phantom radiographs with their table",
        persons=4000,
    ),
}
"""In place of the path of a schema: what is made, and declared.

More audits judge a table, and rows cost little: a larger pool leaves chance less of a say.
"""

DEFAULTS = {
    "image": (DEFAULT_GENERATOR, "Radiographs"),
    "table": (TABLE_GENERATOR, "Patients"),
    "joint": (JOINT_GENERATOR, "Radiographs with their table"),
}
"""Modality -> the generator that is taken unasked, and the name of the dataset."""

PHANTOM_LABELS = ("0", "1", "2", "3", "4")


@dataclass(frozen=True)
class Options:
    """What `make demo` and `kaima demo` may be given."""

    data: Path | None = None
    label: str = PHANTOM_LABEL
    labels: tuple[str, ...] = ()
    unit: UnitOfPrivacy = UnitOfPrivacy.PERSON
    epsilon: float = 5.0
    delta: float = 1e-5
    tier: str = "registered"
    generator: str = ""
    schema: str = ""
    keep: bool = False
    persons: int | None = None
    samples: int | None = None
    out: Path = OUT


def prepare_upload(options: Options, display: Display) -> tuple[Path, Declaration]:
    """Return the file to upload and what is declared of it.

    Raises: UploadRefused; pydantic.ValidationError for what cannot be declared.
    """
    if options.schema:
        return _prepare_table(options, display)
    upload, labels = options.data, options.labels
    if upload is None:
        upload = options.out / "phantoms.zip"
        _make_phantoms("training.phantoms", options, display, out=upload)
        labels = labels or PHANTOM_LABELS
    declaration = declare(upload, label=options.label, labels=labels, unit=options.unit)
    _say_declared(declaration, display)
    if declaration.labels_were_found:
        display.say("  This label set was found in the file; its owner declares it public.")
    if declaration.ignored_columns:
        display.say(f"  Columns not used: {', '.join(declaration.ignored_columns)}.")
    return upload, declaration


def _prepare_table(options: Options, display: Display) -> tuple[Path, Declaration]:
    """Return the owner's table and what the schema declares, or those of phantom patients."""
    upload, schema = options.data, Path(options.schema)
    if (example := EXAMPLES.get(options.schema)) is not None:
        if upload is not None:
            raise UploadRefused(
                f"The schema {options.schema!r} was refused for {upload.name}: it declares the "
                f"{example.what} that are made without data. Name a schema of your own."
            )
        upload = options.out / example.upload
        schema = upload.with_suffix(".toml")
        more = ["--schema", str(schema)]
        _make_phantoms(example.module, options, display, out=upload, more=more)
    elif upload is None:
        raise UploadRefused(
            f"The schema {schema.name} was refused without a table: name it with DATA= (or --data)."
        )
    declaration = declare_table(upload, schema)
    _say_declared(declaration, display)
    return upload, declaration


def _make_phantoms(
    module: str, options: Options, display: Display, *, out: Path, more: Sequence[str] = ()
) -> None:
    """Run the program that makes phantoms; it draws its own progress bar."""
    example = EXAMPLES.get(options.schema)
    persons = options.persons or (example.persons if example else PHANTOM_PERSONS)
    command = [sys.executable, "-m", module, "--persons", str(persons), "--out", str(out)]
    started = time.monotonic()
    subprocess.run([*command, *more], check=True)  # noqa: S603 - our own module
    display.seconds["generate"] = time.monotonic() - started


def _say_declared(declaration: Declaration, display: Display) -> None:
    schema = declaration.schema
    if isinstance(schema, TableSchema):
        word = "persons" if schema.unit is UnitOfPrivacy.PERSON else "rows"
        display.say(
            f"Declared public: about {schema.declared_count} {word}, {len(schema.columns)} columns "
            f"with {sum(schema.sizes)} bins and levels, {len(schema.constraints)} constraints"
            f"{_images_beside(schema)}. All of it is the schema's; nothing was read from the data."
        )
        return
    word = "persons" if schema.unit is UnitOfPrivacy.PERSON else "images"
    display.say(
        f"Declared public: about {schema.declared_count} {word}, {schema.height}×{schema.width} "
        f"pixels of {schema.bit_depth} bits; {schema.label} is one of {', '.join(schema.labels)}. "
        "The count is the file's own, rounded to two digits; its owner declares it public."
    )


def _images_beside(schema: TableSchema) -> str:
    part = schema.images
    if part is None:
        return ""
    return (
        f"; one image for each row, {part.height}×{part.width} pixels of {part.bit_depth} bits, drawn "
        f"for {' and '.join(part.condition_on)}"
    )
