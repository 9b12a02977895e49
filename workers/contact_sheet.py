"""Draw input images beside synthetic ones, one row per label: `python -m workers.contact_sheet`.

For the eyes of the data owner and the auditors. The picture says that it holds input images and is
written with mode 0600, unless the input is declared public (phantoms). Images are drawn at random
with a fixed seed, never chosen by looks.
"""

import io
import json
import os
import secrets
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from privacy.image_parts import image_schema
from privacy.manifests import DatasetSchema
from privacy.modality import modality_in
from privacy.table_schema import TableSchema
from service.domain.errors import InputRefused
from workers.case_sheet import read_bundle_cases, read_upload_cases
from workers.intake import read_upload

NOT_FOR_RELEASE = "contains input images: not for release"
_DPI = 100
_TILE_PIXELS = 96
_GAP_PIXELS = 4
_BLOCK_GAP_PIXELS = 28
_LABEL_CHARACTER_PIXELS = 10
_TITLE_HEIGHT_PIXELS = 78
_CAPTION_HEIGHT_PIXELS = 64
_MOST_LABELS = 12
_SEED = 20
_WARNING_COLOUR = "#a4161a"
_CERTIFICATE = "certificate.json"


@dataclass(frozen=True, eq=False)
class Block:
    """One side of the sheet. Shapes: images (records, height, width); labels (records,)."""

    title: str
    images: NDArray[np.generic]
    labels: NDArray[np.integer]


def draw_contact_sheet(
    blocks: Sequence[Block],
    *,
    label: str,
    labels: Sequence[str],
    caption: str,
    warning: str | None = NOT_FOR_RELEASE,
    columns: int = 6,
) -> bytes:
    """Return a PNG: blocks side by side, one row per label, `columns` images each.

    `labels` names the label indices; only the first 12 get a row.
    """
    shown = list(labels)[:_MOST_LABELS]
    step = _TILE_PIXELS + _GAP_PIXELS
    block_width = columns * step - _GAP_PIXELS
    left_margin = 24 + _LABEL_CHARACTER_PIXELS * max(len(f"{label} {name}") for name in shown)
    width = left_margin + len(blocks) * (block_width + _BLOCK_GAP_PIXELS)
    height = _TITLE_HEIGHT_PIXELS + len(shown) * step + _CAPTION_HEIGHT_PIXELS
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    for row, name in enumerate(shown):
        middle = _CAPTION_HEIGHT_PIXELS + (len(shown) - row - 0.5) * step
        figure.text(
            12 / width,
            middle / height,
            f"{label} {name}".strip(),
            va="center",
            size=11,
            weight="bold",
        )
    for number, block in enumerate(blocks):
        left = left_margin + number * (block_width + _BLOCK_GAP_PIXELS)
        top = (height - _TITLE_HEIGHT_PIXELS + 10) / height
        figure.text(left / width, top, block.title, size=12, weight="bold")
        mosaic = _mosaic(block, len(shown), columns)
        figure.figimage(
            mosaic,
            xo=left,
            yo=_CAPTION_HEIGHT_PIXELS,
            cmap="gray",
            vmin=0,
            vmax=255,
            origin="upper",
        )
    figure.text(12 / width, 22 / height, caption, size=10, va="center", wrap=True)
    if warning is not None:
        figure.text(
            12 / width, 1 - 22 / height, warning, size=13, color=_WARNING_COLOUR, weight="bold"
        )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()


def _mosaic(block: Block, rows: int, columns: int) -> NDArray[np.uint8]:
    """Lay out the images of a block; a label with too few images leaves white cells."""
    step = _TILE_PIXELS + _GAP_PIXELS
    canvas = np.full((rows * step - _GAP_PIXELS, columns * step - _GAP_PIXELS), 255, np.uint8)
    rng = np.random.default_rng(_SEED)
    for row in range(rows):
        of_label = np.flatnonzero(block.labels == row)
        chosen = rng.choice(of_label, min(columns, len(of_label)), replace=False)
        for column, index in enumerate(chosen):
            top, left = row * step, column * step
            canvas[top : top + _TILE_PIXELS, left : left + _TILE_PIXELS] = _tile(
                np.asarray(block.images[index])
            )
    return canvas


def _tile(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Scale one image to a tile, its longer side filling it; 16 bits are shown by their range."""
    if image.dtype != np.uint8:
        values = image.astype(np.float64)
        span = max(float(np.ptp(values)), 1.0)
        image = ((values - values.min()) * (255 / span)).astype(np.uint8)
    height, width = image.shape
    factor = _TILE_PIXELS / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    scaled = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    tile = np.full((_TILE_PIXELS, _TILE_PIXELS), 255, np.uint8)
    tile[: scaled.shape[0], : scaled.shape[1]] = scaled
    return tile


@dataclass(frozen=True, eq=False)
class _Synthetic:
    """What a bundle, or an npz alone, says."""

    images: NDArray[np.generic]
    labels: NDArray[np.integer]
    certificate: dict[str, object]


def read_synthetic(path: Path) -> _Synthetic:
    """Read train_images and train_labels of an npz, a bundle folder or a zipped bundle."""
    if path.suffix == ".npz":
        return _from_npz(path.read_bytes(), {})
    if path.is_dir():
        files = {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}
    else:
        with zipfile.ZipFile(path) as archive:
            wanted = [
                name for name in archive.namelist() if name.endswith((".npz", "certificate.json"))
            ]
            files = {Path(name).name: archive.read(name) for name in wanted}
    arrays = [name for name in files if name.endswith(".npz")]
    if len(arrays) != 1:
        raise click.UsageError(f"{path} holds {len(arrays)} npz files; a bundle holds one.")
    return _from_npz(files[arrays[0]], json.loads(files.get("certificate.json", b"{}")))


def read_certificate(path: Path) -> dict[str, Any]:
    """Return the certificate of a bundle, a folder or a zip; nothing for what has none."""
    if path.suffix == ".npz":
        return {}
    if path.is_dir():
        file = path / _CERTIFICATE
        found: dict[str, Any] = json.loads(file.read_bytes()) if file.exists() else {}
        return found
    with zipfile.ZipFile(path) as archive:
        name = next((name for name in archive.namelist() if name.endswith(_CERTIFICATE)), None)
        return json.loads(archive.read(name)) if name else {}


def _joint_schema(certificate: dict[str, Any]) -> TableSchema | None:
    """Return what is declared of rows with an image each; None for anything else."""
    if modality_in(certificate.get("declared", {})) != "joint":
        return None
    return TableSchema.model_validate(certificate["declared"])


def _from_npz(content: bytes, certificate: dict[str, object]) -> _Synthetic:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return _Synthetic(arrays["train_images"], arrays["train_labels"].reshape(-1), certificate)


def describe(certificate: dict[str, object]) -> str:
    """Return the caption that a certificate gives: epsilon, unit and generator."""
    if not certificate:
        return "drawn at random with a fixed seed"
    unit = "person" if certificate.get("unit") == "person" else "image"
    return (
        f"Synthetic: ε = {certificate['epsilon']:.4g} per {unit}, δ = {certificate['delta']:.3g}, "
        f"add or remove one {unit}; generator '{certificate['generator']}'. "
        "Images drawn at random with a fixed seed."
    )


def write_private(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write a file that never exists with wider permissions than `mode`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
    partial.replace(path)


def _read_real(upload: Path, schema: DatasetSchema) -> Block:
    """Read an upload as intake does; the blobs live in a private folder while they are read."""
    with tempfile.TemporaryDirectory() as folder:
        # A throw-away key: the digests of persons are not used here.
        read_upload(upload, schema=schema, tenant_key=secrets.token_bytes(32), out=Path(folder))
        images = np.load(Path(folder) / "images.npy", allow_pickle=False)
        labels = np.load(Path(folder) / "labels.npy", allow_pickle=False)
    return Block("input", images, labels)


@click.command()
@click.option(
    "--upload",
    "--real",
    "upload",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="What the data owner uploaded.",
)
@click.option(
    "--synthetic",
    type=click.Path(exists=True, path_type=Path),
    help="Bundle folder, zipped bundle or npz; without it the sheet shows the input alone.",
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option(
    "--schema",
    "schema_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The declared schema as JSON; by default the one in the bundle's certificate.",
)
@click.option("--label", help="Name of the label column; must agree with the schema.")
@click.option("--caption", help="By default epsilon, unit and generator of the certificate.")
@click.option("--columns", type=click.IntRange(1, 20), default=6, show_default=True)
@click.option("--input-is-public", is_flag=True, help="Phantoms: no warning, ordinary file mode.")
def main(
    *,
    upload: Path,
    synthetic: Path | None,
    out: Path,
    schema_file: Path | None,
    label: str | None,
    caption: str | None,
    columns: int,
    input_is_public: bool,
) -> None:
    """Draw a contact sheet of an upload beside a synthetic set."""
    certificate = {} if synthetic is None else read_certificate(synthetic)
    joint = _joint_schema(certificate)
    try:
        if joint is not None and synthetic is not None:
            blocks = [
                Block("input", *read_upload_cases(upload, joint)),
                Block("synthetic", *read_bundle_cases(synthetic, joint)),
            ]
            # The names of cells say which columns they are of.
            schema, column = image_schema(joint), ""
        else:
            made = None if synthetic is None else read_synthetic(synthetic)
            schema = _schema(schema_file, made, label)
            column = schema.label
            blocks = [_read_real(upload, schema)]
            if made is not None:
                blocks.append(Block("synthetic", made.images, made.labels))
    except InputRefused as error:
        raise click.ClickException(error.sentence) from None
    content = draw_contact_sheet(
        blocks,
        label=column,
        labels=schema.labels,
        caption=caption or describe(certificate),
        warning=None if input_is_public else NOT_FOR_RELEASE,
        columns=columns,
    )
    write_private(out, content, mode=0o644 if input_is_public else 0o600)
    click.echo(f"{out}: contact sheet of {len(schema.labels)} labels")


def _schema(file: Path | None, made: _Synthetic | None, label: str | None) -> DatasetSchema:
    if file is not None:
        schema = DatasetSchema.model_validate_json(file.read_bytes())
    elif made is not None and "declared" in made.certificate:
        schema = DatasetSchema.model_validate(made.certificate["declared"])
    else:
        raise click.UsageError("Give --schema, or a --synthetic bundle that has a certificate.")
    if label is not None and label != schema.label:
        raise click.UsageError(
            f"--label {label} was refused: the schema declares the label '{schema.label}'."
        )
    return schema


if __name__ == "__main__":
    main()
