"""Edit a released set to a specification: series, teaching sets, stress tests of a classifier.

python -m workers.editing series BUNDLE --vary joint_space --hold exposure --out OUT.png
python -m workers.editing teach  BUNDLE --vary label --hold exposure --out FOLDER
python -m workers.editing stress BUNDLE --model MODEL.onnx --vary exposure --report OUT.html
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from privacy.errors import InvalidParameter
from training.editing.editor import Editor, Specification
from training.editing.series import LABEL, Axis, Series, make_series
from workers.editing.classifier import load_classifier
from workers.editing.source import ReleasedSet, read_released_set
from workers.editing.stress import run_stress_test
from workers.editing.stress_report import render_stress_report
from workers.editing.teaching import png, write_teaching_set

_REFUSED = 2


@click.group()
def main() -> None:
    """Edit a released set to a specification; free, since only what was released is read."""


def edits(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say what is edited, and how."""
    for option in reversed(
        (
            click.argument("source", type=click.Path(exists=True, path_type=Path)),
            click.option(
                "--vary", required=True, help="label, or NAME, or NAME=LOW:HIGH, or NAME=LOW:HIGH:STEPS."
            ),
            click.option("--set", "wanted", multiple=True, help="NAME=VALUE, or label=NAME."),
            click.option("--hold", "held", multiple=True, help="An attribute to keep as it is."),
            click.option("--image", "images", multiple=True, type=click.IntRange(min=0),
                         help="Number of an image in the set; drawn from --seed by default."),
            click.option("--images", "count", type=click.IntRange(1, 500), default=12, show_default=True),
            click.option("--knees/--no-knees", default=None, help="Use rulers for knees; by the label."),
            click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True),
        )
    ):  # fmt: skip
        command = option(command)
    return command


@main.command()
@edits
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path))
def series(out: Path, json_path: Path | None, **given: Any) -> None:
    """Write a sheet: one row for each image, one column for each step."""
    _, editor, made, told = _made(**given)
    rows = [np.hstack(list(row)) for row in made.images]
    _write(out, png(np.vstack(rows)))
    if json_path is not None:
        _write(json_path, json.dumps(told | _measured(made), indent=2).encode())
    _say(editor, made)
    click.echo(f"Series: {out}")


@main.command()
@edits
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
def teach(out: Path, *, seed: int, **given: Any) -> None:
    """Write a teaching set: case list, answers, and a quiz page that keeps score."""
    source, editor, made, told = _made(seed=seed, **given)
    cases = write_teaching_set(
        out, made, editor=editor, source=source, specification=told, seed=seed
    )
    _say(editor, made)
    click.echo(f"Teaching set of {cases} cases; open {out / 'quiz.html'}")


@main.command()
@edits
@click.option(
    "--model", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True
)
@click.option("--white", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True,
              help="What white is for the model: 1, or 255.")  # fmt: skip
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path))
def stress(
    *, model: Path, white: float, report: Path, json_path: Path | None, seed: int, **given: Any
) -> None:
    """Run a classifier (ONNX) over a series and report where its answer changes."""
    source, editor, made, told = _made(seed=seed, **given)
    classifier = load_classifier(model, kinds=len(editor.labels), white=white)
    test = run_stress_test(made, classifier)
    found = told | {"model": model.name} | test.document(editor, seed=seed)
    page = render_stress_report(test, found, editor=editor, title=source.name, model=model.name)
    _write(report, page.encode())
    if json_path is not None:
        _write(json_path, json.dumps(found, indent=2).encode())
    _say(editor, made)
    changed = found["changed_their_answer"]
    click.echo(
        f"{changed['share']:.0%} of {found['cases']} images get another answer along {made.axis} "
        f"(95 %: {changed['ci_low']:.0%} to {changed['ci_high']:.0%})."
    )
    click.echo(f"Report: {report}")


def _made(
    *,
    source: Path,
    vary: str,
    wanted: tuple[str, ...],
    held: tuple[str, ...],
    images: tuple[int, ...],
    count: int,
    knees: bool | None,
    seed: int,
) -> tuple[ReleasedSet, Editor, Series, dict[str, Any]]:
    released = read_released_set(source)
    editor = released.editor(knees=knees)
    axis, rest = axis_of(vary), specification_of(wanted, held, editor)
    chosen = _chosen(released, images, count=count, seed=seed)
    made = make_series(
        editor, released.images, released.labels, sources=chosen, axis=axis, rest=rest
    )
    told: dict[str, Any] = {
        "source": source.name,
        "vary": vary,
        "set": list(wanted),
        "hold": list(held),
        "images": [int(number) for number in chosen],
        "seed": seed,
    }
    return released, editor, made, told


def axis_of(text: str) -> Axis:
    """Read NAME, NAME=LOW:HIGH or NAME=LOW:HIGH:STEPS.  Raises: InvalidParameter."""
    name, _, ends = text.partition("=")
    if not ends:
        return Axis(name)
    try:
        low, high, *steps = ends.split(":")
        return Axis(name, float(low), float(high), *(int(step) for step in steps[:1]))
    except ValueError:
        raise InvalidParameter(
            f"--vary {text!r} was refused: write NAME, NAME=LOW:HIGH or NAME=LOW:HIGH:STEPS."
        ) from None


def specification_of(
    wanted: tuple[str, ...], held: tuple[str, ...], editor: Editor
) -> Specification:
    """Read what is set and held.  Raises: InvalidParameter."""
    label, values = None, {}
    for text in wanted:
        name, _, value = text.partition("=")
        if name == LABEL:
            if value not in editor.labels:
                raise InvalidParameter(
                    f"The label {value!r} was refused: the set has {', '.join(editor.labels)}."
                )
            label = editor.labels.index(value)
            continue
        try:
            values[name] = float(value)
        except ValueError:
            raise InvalidParameter(f"--set {text!r} was refused: write NAME=NUMBER.") from None
    return Specification(label=label, wanted=values, held=held)


def _chosen(
    released: ReleasedSet, images: tuple[int, ...], *, count: int, seed: int
) -> np.ndarray[Any, np.dtype[np.int64]]:
    if images:
        if max(images) >= len(released.images):
            raise InvalidParameter(
                f"Image {max(images)} was refused: the set has {len(released.images)}, from 0."
            )
        return np.array(images, dtype=np.int64)
    rng = np.random.default_rng(seed)
    return np.sort(
        rng.choice(len(released.images), min(count, len(released.images)), replace=False)
    )


def _measured(made: Series) -> dict[str, object]:
    return {
        "values": made.values.tolist(),
        "attributes": list(made.attributes),
        "measured": np.round(made.measured, 5).tolist(),
        "is_met": made.is_met.tolist(),
    }


def _say(editor: Editor, made: Series) -> None:
    met = made.is_met.mean()
    names = ", ".join(f"{a.name} ({a.unit})" for a in editor.attributes)
    click.echo(f"{met:.0%} of the edits met their specification. Measured: {names}.")


def _write(path: Path, content: bytes) -> None:
    """Write a file whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=".draft-")
    try:
        with os.fdopen(descriptor, "wb") as target:
            target.write(content)
        Path(draft).chmod(0o644)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except (InvalidParameter, OSError) as refused:
        click.echo(str(refused), err=True)
        sys.exit(_REFUSED)
    except click.ClickException as refused:
        refused.show()
        sys.exit(_REFUSED)
    except click.Abort:
        sys.exit(130)
