"""Write the generated parts of service/README.md: `python -m service.readme [--check]`.

The state tables in `service.domain` and the commands in `service.cli` are the truth; a test fails
when the page is older than they are.
"""

import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import click

from service.cli import kaima
from service.domain import access, datasets, jobs, plan_approvals, releases, studies

README = Path(__file__).with_name("README.md")

S = TypeVar("S", bound=StrEnum)


def state_diagram(table: Mapping[S, frozenset[S]]) -> str:
    """Return a table of transitions as a Mermaid state diagram."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {next(iter(table)).value}"]
    for state, onward in table.items():
        lines += [f"    {state.value} --> {target.value}" for target in sorted(onward)]
        if not onward:
            lines.append(f"    {state.value} --> [*]")
    return "\n".join([*lines, "```"])


def owner_table() -> str:
    """Return whose turn it is in each state of a release, and when it is due."""
    words = {
        releases.Due.REVIEW: "`KAIMA_REVIEW_DUE_DAYS` after it was submitted",
        releases.Due.AUTHOR: "`KAIMA_AUTHOR_DUE_DAYS` after it came here",
        releases.Due.EXPIRY: "the day on which the approval ends, if its conditions name one",
        releases.Due.NEVER: "–",
    }
    rows = [
        f"| `{state.value}` | {releases.OWNERS[state].value} | {words[releases.DUE[state]]} |"
        for state in releases.ReleaseState
    ]
    return "\n".join(["| State | Owner | Due |", "|---|---|---|", *rows])


def command_table() -> str:
    """Return every command of `kaima` with its first sentence."""
    rows = [f"| `{name}` | {about} |" for name, about in _commands(kaima, "kaima")]
    return "\n".join(["| Command | What it does |", "|---|---|", *rows])


def written(text: str) -> str:
    """Return a page with each generated part between its markers renewed."""
    parts = {
        "commands": command_table(),
        "job states": state_diagram(jobs.TRANSITIONS),
        "release states": state_diagram(releases.TRANSITIONS),
        "version states": state_diagram(datasets.VERSION_TRANSITIONS),
        "plan states": state_diagram(plan_approvals.TRANSITIONS),
        "release owners": owner_table(),
        "access request states": state_diagram(access.REQUEST_TRANSITIONS),
        "study states": state_diagram(studies.STUDY_TRANSITIONS),
        "phases of a reader": state_diagram(studies.PHASES),
    }
    for name, part in parts.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, _, rest = text.partition(start)
        _, _, after = rest.partition(end)
        text = f"{before}{start}\n{part}\n{end}{after}"
    return text


def main(arguments: list[str]) -> int:
    """Renew the page; with --check, only say whether it is current."""
    text = README.read_text(encoding="utf-8")
    current = written(text)
    if "--check" in arguments:
        return int(current != text)
    README.write_text(current, encoding="utf-8")
    return 0


def _commands(command: click.Command, name: str) -> Iterator[tuple[str, str]]:
    if name != "kaima":
        yield name, (command.help or "").partition("\n\n")[0].replace("\n", " ")
    if isinstance(command, click.Group):
        for child in sorted(command.commands):
            yield from _commands(command.commands[child], f"{name} {child}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
