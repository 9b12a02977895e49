"""The page of a stress test: what changes, how often the answer changes with it, and where."""

import base64
import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup
from matplotlib.figure import Figure

from training.editing.editor import Editor
from training.editing.series import LABEL
from workers.editing.stress import StressTest
from workers.editing.teaching import png

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=select_autoescape(),
    trim_blocks=True,
    lstrip_blocks=True,
)
_CASES_SHOWN = 6
_CASES_DRAWN = 60


def render_stress_report(
    test: StressTest, document: dict[str, Any], *, editor: Editor, title: str, model: str
) -> str:
    """Return one self-contained page."""
    series = test.series
    shown = np.argsort(~test.flips, kind="stable")[:_CASES_SHOWN]
    strip = [
        {
            "images": [
                {
                    "data": base64.b64encode(png(series.images[case, step])).decode("ascii"),
                    "answer": editor.labels[test.answers[case, step]],
                    "value": _value(test, editor, step),
                    "changed": step > 0
                    and test.answers[case, step] != test.answers[case, step - 1],
                    "is_met": bool(series.is_met[case, step]),
                }
                for step in range(len(series.values))
            ],
            "source": int(series.sources[case]),
        }
        for case in shown
    ]
    return _TEMPLATES.get_template("stress.html").render(
        title=title,
        model=model,
        found=document,
        is_label=series.axis == LABEL,
        axis=_axis_title(editor, series.axis),
        curve=Markup(_curve(test, editor)),  # noqa: S704 - drawn here from numbers
        strips=Markup(_answers(test, editor)),  # noqa: S704
        strip=strip,
    )


def _axis_title(editor: Editor, name: str) -> str:
    for attribute in editor.attributes:
        if attribute.name == name:
            return f"{attribute.title}, {attribute.unit}"
    return "label"


def _value(test: StressTest, editor: Editor, step: int) -> str:
    value = test.series.values[step]
    return editor.labels[int(value)] if test.series.axis == LABEL else f"{value:.3g}"


def _curve(test: StressTest, editor: Editor) -> str:
    """Draw the expected label along the axis: each case thin, their mean thick."""
    expected = test.probabilities @ np.arange(test.probabilities.shape[2])
    expected = np.where(test.series.is_met, expected, np.nan)
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(test.series.values, expected[:_CASES_DRAWN].T, color="#7d8a85", lw=0.6, alpha=0.5)
    counted = np.isfinite(expected).any(axis=0)
    mean = np.nanmean(expected[:, counted], axis=0)
    axes.plot(test.series.values[counted], mean, color="#14665a", lw=2.5, marker="o")
    axes.set_ylim(-0.1, len(editor.labels) - 0.9)
    axes.set_yticks(range(len(editor.labels)), editor.labels)
    if test.series.axis == LABEL:
        axes.set_xticks(range(len(editor.labels)), editor.labels)
    axes.set_xlabel(_axis_title(editor, test.series.axis))
    axes.set_ylabel("expected answer")
    axes.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def _answers(test: StressTest, editor: Editor) -> str:
    """Draw every case's answers as a row of cells, rows alike in order."""
    order = np.lexsort(test.answers.T[::-1])[:_CASES_DRAWN]
    cells = np.where(test.series.is_met[order], test.answers[order], np.nan)
    figure = Figure(figsize=(7.2, 0.9 + 0.055 * len(order)), layout="constrained")
    axes = figure.subplots()
    drawn = axes.pcolormesh(
        cells, cmap=mpl.colormaps["viridis"], vmin=-0.5, vmax=len(editor.labels) - 0.5
    )
    steps = [_value(test, editor, step) for step in range(len(test.series.values))]
    axes.set_xticks(np.arange(len(steps)) + 0.5, steps)
    axes.set_yticks([])
    axes.set_xlabel(_axis_title(editor, test.series.axis))
    axes.set_ylabel("cases")
    bar = figure.colorbar(drawn, ticks=range(len(editor.labels)), boundaries=None)
    bar.ax.set_yticklabels(editor.labels)
    return _svg(figure)


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "kaima"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
