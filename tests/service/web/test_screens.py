"""Every page as every role in a real browser: readable, at home, and usable without sight or mouse."""

from pathlib import Path

import pytest

from tests.filled import filled_instance
from tests.screens import take_screens

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


def test_no_page_has_a_finding(repository: Path) -> None:
    with filled_instance() as (url, keys, _):
        findings = take_screens(url, keys, repository / "build" / "screens")
    assert findings.wrong == []
    assert len(findings.shots) > 40
