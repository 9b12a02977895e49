"""The generated parts of service/README.md are what the code says."""

from service.domain.jobs import TRANSITIONS, JobState
from service.readme import README, command_table, state_diagram, written


def test_the_page_is_current() -> None:
    text = README.read_text(encoding="utf-8")
    assert written(text) == text, "run: python -m service.readme"


def test_every_transition_is_drawn() -> None:
    picture = state_diagram(TRANSITIONS)
    for state, onward in TRANSITIONS.items():
        for target in onward:
            assert f"{state.value} --> {target.value}\n" in picture
    assert f"{JobState.FAILED.value} --> [*]" in picture


def test_every_command_says_what_it_does() -> None:
    rows = command_table().splitlines()[2:]
    assert len(rows) > 30
    assert all(row.split("|")[2].strip().endswith((".", ")")) for row in rows), rows
