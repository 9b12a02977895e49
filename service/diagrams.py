"""Draw the state tables into service/README.md: `python -m service.diagrams [--check]`.

The tables in `service.domain` are the truth; a test fails when the pictures are older than them.
"""

import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from service.domain import datasets, jobs, releases

README = Path(__file__).with_name("README.md")

S = TypeVar("S", bound=StrEnum)


def mermaid(table: Mapping[S, frozenset[S]]) -> str:
    """Return a table of transitions as a Mermaid state diagram."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {next(iter(table)).value}"]
    for state, onward in table.items():
        lines += [f"    {state.value} --> {target.value}" for target in sorted(onward)]
        if not onward:
            lines.append(f"    {state.value} --> [*]")
    return "\n".join([*lines, "```"])


def drawn(text: str) -> str:
    """Return a page with each picture between its markers redrawn."""
    pictures = {
        "job": mermaid(jobs.TRANSITIONS),
        "release": mermaid(releases.TRANSITIONS),
        "version": mermaid(datasets.VERSION_TRANSITIONS),
    }
    for name, picture in pictures.items():
        start, end = f"<!-- {name} states -->", f"<!-- end of {name} states -->"
        before, _, rest = text.partition(start)
        _, _, after = rest.partition(end)
        text = f"{before}{start}\n{picture}\n{end}{after}"
    return text


def main(arguments: list[str]) -> int:
    """Redraw the pictures; with --check, only say whether they are current."""
    text = README.read_text(encoding="utf-8")
    current = drawn(text)
    if "--check" in arguments:
        return int(current != text)
    README.write_text(current, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
