"""Write a zip of phantom knees: `python -m training.phantoms --persons 2500 --out cohort.zip`."""

from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from training.phantoms.cohort import make_cohort
from training.phantoms.upload import UploadFormat, write_upload


@click.command()
@click.option("--persons", type=click.IntRange(1, 1_000_000), required=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--pixels", type=click.IntRange(16, 1024), default=64, show_default=True)
@click.option(
    "--format",
    "upload_format",
    type=click.Choice(["dicom", "png"]),
    default="dicom",
    show_default=True,
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def main(persons: int, out: Path, pixels: int, upload_format: UploadFormat, seed: int) -> None:
    """Make phantom knee radiographs, two per person, as a zip ready to upload."""
    console = Console(stderr=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    with Progress(
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    ) as bars:
        drawing = bars.add_task("Drawing phantom knees", total=2 * persons)
        cohort = make_cohort(
            persons,
            pixels=pixels,
            seed=seed,
            progress=lambda done, _: bars.update(drawing, completed=done),
        )
        writing = bars.add_task(f"Writing {upload_format} files", total=2 * persons)
        write_upload(
            cohort,
            out,
            upload_format=upload_format,
            seed=seed,
            progress=lambda done, _: bars.update(writing, completed=done),
        )
    click.echo(f"{out}: {2 * persons} radiographs of {persons} phantom persons, {pixels} px")


if __name__ == "__main__":
    main()
