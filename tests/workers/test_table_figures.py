"""Figures of a table's utility: one line for each source, and names that cannot become markup."""

from workers.report.table_figures import figures

DISTANCES = [{"way": way, "mean": 0.1 * way} for way in (1, 2, 3)]
UTILITY = {
    "kind": "table",
    "computed": True,
    "to_held_out": {"synthetic": DISTANCES, "independent_columns": DISTANCES},
    "references": {"independent_columns": "columns drawn independently: the floor"},
    "survival": {
        "time": "<script>$days",
        "upper_edges": [10.0, 20.0],
        "curves": {"synthetic": [0.9, 0.5], "real": [0.8, 0.6], "held_out": [0.9, 0.6]},
    },
}


def test_distances_and_survival_are_drawn():
    distances, survival = figures(UTILITY)
    assert "columns drawn independently: the floor" in distances
    assert "held out" in survival
    assert "<script>" not in survival
    assert "&lt;script&gt;$days" in survival


VISITS = {
    "order": "$month",
    "references": {"other_persons": "real persons", "rows_dealt_out": "rows dealt out: the floor"},
    "rows_per_person": {name: [0.5, 0.5] for name in ("synthetic", "held_out")},
    "gaps": {name: [0.1, 0.9] for name in ("synthetic", "held_out")},
    "columns": [
        {
            "column": "<b>sex",
            "distance": {"synthetic": None, "other_persons": 0.1, "rows_dealt_out": 0.4},
            "autocorrelation": None,
        }
    ],
}


def test_visits_are_drawn_also_where_a_source_has_no_steps():
    drawn = figures(UTILITY | {"survival": None, "trajectories": VISITS})
    assert len(drawn) == 3
    assert "$month" in drawn[1]
    assert "real persons" in drawn[2]
    assert "<b>sex" not in drawn[2]


def test_a_table_without_survival_has_one_figure_and_pictures_have_none():
    assert len(figures(UTILITY | {"survival": None})) == 1
    assert figures(UTILITY | {"kind": "image"}) == ()
    assert figures({"kind": "table", "computed": False}) == ()
    assert figures(None) == ()
