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
from training.phantoms.prior import emphasised
from training.phantoms.upload import UploadFormat, write_truth, write_upload


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
@click.option(
    "--emphasis",
    type=click.FloatRange(0, 1),
    default=1.0,
    show_default=True,
    help="How much grades are exaggerated, so that small pictures show them; 0: published anatomy.",
)
@click.option(
    "--truth",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write every knee's parameters, with units, to this CSV beside the zip.",
)
def main(
    *,
    persons: int,
    out: Path,
    pixels: int,
    upload_format: UploadFormat,
    seed: int,
    emphasis: float,
    truth: Path | None,
) -> None:
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
            prior=emphasised(emphasis),
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
    if truth is not None:
        truth.parent.mkdir(parents=True, exist_ok=True)
        write_truth(cohort, truth, upload_format=upload_format)
    click.echo(f"{out}: {2 * persons} radiographs of {persons} phantom persons, {pixels} px")


if __name__ == "__main__":
    main()
