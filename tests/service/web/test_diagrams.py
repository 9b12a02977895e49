"""The pictures in service/README.md are the tables."""

from service.diagrams import README, drawn, mermaid
from service.domain.jobs import TRANSITIONS, JobState


def test_the_state_diagrams_are_current() -> None:
    text = README.read_text(encoding="utf-8")
    assert drawn(text) == text, "run: python -m service.diagrams"


def test_every_transition_is_drawn() -> None:
    picture = mermaid(TRANSITIONS)
    for state, onward in TRANSITIONS.items():
        for target in onward:
            assert f"{state.value} --> {target.value}\n" in picture
    assert f"{JobState.FAILED.value} --> [*]" in picture
