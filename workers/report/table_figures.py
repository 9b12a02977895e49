"""Draw the utility of a table: distances between their reference lines, and survival curves."""

import io
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

_COLOURS = {
    "synthetic": "#14665a",
    "other_persons": "#333333",
    "drawn_again": "#7d8a85",
    "independent_columns": "#b3541e",
    "held_out": "#333333",
    "real": "#7d8a85",
}


def figures(utility: object) -> tuple[Markup, ...]:
    """Return SVG figures of a table's utility document; none of any other."""
    if not isinstance(utility, Mapping) or not utility.get("computed"):
        return ()
    if utility.get("kind") != "table":
        return ()
    drawn = [_distances(utility)]
    if utility.get("survival"):
        drawn.append(_survival(utility["survival"]))
    return tuple(drawn)


def _distances(utility: Mapping[str, Any]) -> Markup:
    figure = Figure(figsize=(7.2, 2.6), layout="constrained")
    axes = figure.subplots()
    for source, distances in utility["to_held_out"].items():
        ways = [one["way"] for one in distances]
        is_ours = source == "synthetic"
        axes.plot(
            ways,
            [one["mean"] for one in distances],
            color=_COLOURS[source],
            lw=2.5 if is_ours else 1.2,
            ls="-" if is_ours else "--",
            marker="o",
            label="synthetic" if is_ours else utility["references"][source],
        )
    axes.set_xticks([1, 2, 3], ["1 column", "2 columns", "3 columns"])
    axes.set_ylabel("mean distance")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    return _svg(figure)


def _survival(survival: Mapping[str, Any]) -> Markup:
    figure = Figure(figsize=(7.2, 2.6), layout="constrained")
    axes = figure.subplots()
    for source, curve in survival["curves"].items():
        axes.step(
            [0.0, *survival["upper_edges"]],
            [1.0, *curve],
            where="post",
            color=_COLOURS[source],
            lw=2.5 if source == "synthetic" else 1.2,
            label=source.replace("_", " "),
        )
    axes.set_xlabel(survival["time"].replace("$", r"\$"))
    axes.set_ylabel("without the event")
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False, fontsize=8)
    return _svg(figure)


def _svg(figure: Figure) -> Markup:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "kaima"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return Markup(text[text.index("<svg") :])  # noqa: S704 - drawn here; matplotlib escapes names
