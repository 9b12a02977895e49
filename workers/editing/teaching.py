"""Write a series as a teaching set: pictures, a case list, answers apart from it, and a quiz page.

The page works from the folder, without a server or a request to anywhere.
"""

import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, select_autoescape
from numpy.typing import NDArray
from PIL import Image

from privacy.errors import InvalidParameter
from training.editing.editor import Editor
from training.editing.series import LABEL, Series
from workers.editing.source import ReleasedSet

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=select_autoescape(),
    trim_blocks=True,
    lstrip_blocks=True,
)
_QUIZ = ("quiz.js", "quiz.css")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_teaching_set(
    folder: Path,
    series: Series,
    *,
    editor: Editor,
    source: ReleasedSet,
    specification: Mapping[str, object],
    seed: int,
) -> int:
    """Write the set into a new folder and return the number of cases.

    Cases come in an order drawn from the seed, so that a file's number tells nothing; only those that
    met their specification are cases. Raises: InvalidParameter where none did, or the folder exists.
    """
    places = [(int(c), int(s)) for c, s in np.argwhere(series.is_met)]
    if not places:
        raise InvalidParameter(
            "The teaching set was refused: no image met its specification. Ask for a smaller change."
        )
    if folder.exists():
        raise InvalidParameter(f"The folder {folder.name} was refused: it exists. Name a new one.")
    order = np.random.default_rng(seed).permutation(len(places))
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".teaching-", dir=folder.parent))
    try:
        _fill(draft, series, [places[i] for i in order], editor, source, specification)
        draft.chmod(0o755)
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return len(places)


def _fill(  # noqa: PLR0917 - the parts of one folder
    folder: Path,
    series: Series,
    places: list[tuple[int, int]],
    editor: Editor,
    source: ReleasedSet,
    specification: Mapping[str, object],
) -> None:
    (folder / "images").mkdir()
    cases: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    for number, (case, step) in enumerate(places, start=1):
        file = f"images/case-{number:04d}.png"
        (folder / file).write_bytes(png(series.images[case, step]))
        answer = editor.labels[series.labels[case, step]]
        cases.append({"case": number, "file": file})
        answers.append(
            {
                "case": number,
                "answer": answer,
                "source_image": int(series.sources[case]),
                "source_label": editor.labels[series.start_labels[case]],
                "varied": series.axis,
                "value": round(float(series.values[step]), 6),
                **{
                    name: round(float(value), 4)
                    for name, value in zip(
                        series.attributes, series.measured[case, step], strict=True
                    )
                },
            }
        )
    _table(folder / "cases.csv", cases)
    _table(folder / "answers.csv", answers)
    told = {
        "source": source.name,
        "label": source.label,
        "labels": list(editor.labels),
        "specification": dict(specification),
        "cases": len(cases),
        "privacy": "post-processing of a released set: no privacy budget was spent",
    }
    (folder / "specification.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    right = {a["case"]: list(editor.labels).index(a["answer"]) for a in answers}
    quiz = {
        "labels": list(editor.labels),
        "cases": [c | {"right": right[c["case"]]} for c in cases],
    }
    (folder / "cases.js").write_text(f"const QUIZ = {_script(quiz)};\n", encoding="utf-8")
    page = _TEMPLATES.get_template("quiz.html").render(
        label=source.label, count=len(cases), axis=series.axis, is_label=series.axis == LABEL
    )
    (folder / "quiz.html").write_text(page, encoding="utf-8")
    for name in _QUIZ:
        shutil.copyfile(Path(__file__).with_name("templates") / name, folder / name)


def png(image: NDArray[np.uint8]) -> bytes:
    """Return an image (H, W) as PNG, nothing else in it."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, format="PNG", optimize=False)
    return out.getvalue()


def _script(value: object) -> str:
    """Return JSON that no label can end a script with."""
    return json.dumps(value).replace("<", "\\u003c").replace("\u2028", "\\u2028")


def _table(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as target:
        writer = csv.DictWriter(target, fieldnames=list(rows[0]), lineterminator=os.linesep)
        writer.writeheader()
        writer.writerows({key: _plain(value) for key, value in row.items()} for row in rows)


def _plain(value: object) -> object:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
