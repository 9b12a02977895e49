"""Draw the utility of a table: distances between their reference lines, survival, and visits."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_MOST_COLUMNS = 40
_COLOURS = {
    "synthetic": "#14665a",
    "other_persons": "#333333",
    "drawn_again": "#7d8a85",
    "independent_columns": "#b3541e",
    "rows_dealt_out": "#b3541e",
    "held_out": "#333333",
    "real": "#7d8a85",
}


def figures(utility: object) -> tuple[Markup, ...]:
    """Return SVG figures of a table's utility document, also beside images; none of any other."""
    if isinstance(utility, Mapping) and utility.get("kind") == "joint":
        utility = utility.get("table")
    if not isinstance(utility, Mapping) or not utility.get("computed"):
        return ()
    if utility.get("kind") != "table":
        return ()
    drawn = [_distances(utility)]
    if utility.get("survival"):
        drawn.append(_survival(utility["survival"]))
    if utility.get("trajectories"):
        drawn += [_visits(utility["trajectories"]), _steps(utility["trajectories"])]
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


def _visits(visits: Mapping[str, Any]) -> Markup:
    """Draw how many rows persons have, and how far a step goes."""
    figure = Figure(figsize=(7.2, 2.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for source in ("held_out", "synthetic"):
        is_ours = source == "synthetic"
        for axes, key, first in ((left, "rows_per_person", 1), (right, "gaps", 0)):
            shares = visits[key][source]
            axes.plot(
                range(first, first + len(shares)),
                shares,
                color=_COLOURS[source],
                lw=2.5 if is_ours else 1.2,
                ls="-" if is_ours else "--",
                marker="o",
                label=source.replace("_", " "),
            )
            axes.set_ylim(bottom=0)
            axes.locator_params(axis="x", integer=True)
    left.set_xlabel("rows of a person, the last and more")
    left.set_ylabel("share of persons")
    order = visits["order"].replace("$", r"\$")
    right.set_xlabel(f"bins of {order} from row to row")
    right.set_ylabel("share of steps")
    left.legend(frameon=False, fontsize=8)
    return _svg(figure)


def _steps(visits: Mapping[str, Any]) -> Markup:
    """Draw, by column, distances of what follows what, and autocorrelation."""
    columns = visits["columns"][:_MOST_COLUMNS]
    figure = Figure(figsize=(7.2, 1.1 + 0.24 * len(columns)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    heights = [-place for place in range(len(columns))]
    for source in ("rows_dealt_out", "other_persons", "synthetic"):
        values = [column["distance"][source] for column in columns]
        label = "synthetic" if source == "synthetic" else visits["references"][source]
        _dots(left, values, heights, source=source, label=label.removesuffix(": the floor"))
    for source in ("rows_dealt_out", "held_out", "synthetic"):
        values = [(column["autocorrelation"] or {}).get(source) for column in columns]
        _dots(right, values, heights, source=source, label=source.replace("_", " "))
    names = [column["column"].replace("$", r"\$") for column in columns]
    left.set_yticks(heights, names, fontsize=8)
    left.set_xlim(left=0)
    left.set_xlabel("distance of following rows")
    right.set_xlabel("autocorrelation")
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    return _svg(figure)


def _dots(
    axes: Axes, values: Sequence[float | None], heights: Sequence[int], *, source: str, label: str
) -> None:
    known = [(v, h) for v, h in zip(values, heights, strict=True) if v is not None]
    axes.plot(
        [v for v, _ in known],
        [h for _, h in known],
        ls="",
        marker="o" if source == "synthetic" else "|",
        ms=6 if source == "synthetic" else 9,
        mew=2,
        color=_COLOURS[source],
        label=label,
    )


def _svg(figure: Figure) -> Markup:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "kaima"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return Markup(text[text.index("<svg") :])  # noqa: S704 - drawn here; matplotlib escapes names
