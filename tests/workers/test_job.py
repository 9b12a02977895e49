"""The process that does one job: what it says, what it keeps to itself, and when it ends."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy.exc import OperationalError

from privacy.errors import DigestMismatch
from service.domain.errors import InputRefused, JournalBehind, LeaseLost
from workers.job import Exit, Messages, outcome_of

SECRET = "patient 4711"


@pytest.mark.parametrize(
    ("error", "how", "is_shown"),
    [
        (InputRefused(SECRET, file="a.png"), Exit.REFUSED, True),
        (DigestMismatch(SECRET), Exit.REFUSED, True),
        (JournalBehind(SECRET), Exit.HELD, True),
        (LeaseLost(SECRET), Exit.LEASE_LOST, False),
        (ValueError(SECRET), Exit.BROKEN, False),
        (KeyError(SECRET), Exit.BROKEN, False),
        (MemoryError(SECRET), Exit.REFUSED, False),
        (OperationalError(SECRET, {}, ValueError(SECRET)), Exit.UNAVAILABLE, False),
    ],
)
def test_only_a_refusal_shows_its_text(error, how, is_shown):
    code, problem = outcome_of(error)
    assert code is how
    assert (SECRET in json.dumps(problem)) is is_shown


def test_a_refusal_keeps_what_names_the_file_and_the_remedy():
    error = InputRefused("No.", file="a.png", value=3, limit=2, remedy="Scale it down.")
    _, problem = outcome_of(error)
    assert problem == {
        "type": "input-refused",
        "detail": "No.",
        "file": "a.png",
        "value": 3,
        "limit": 2,
        "remedy": "Scale it down.",
    }


def test_progress_is_thinned_out_but_a_new_stage_and_the_end_are_told():
    stream = io.StringIO()
    messages = Messages(stream)
    for step in range(1000):
        messages.progress("walking", step, 1000)
    messages.progress("walking", 1000, 1000)
    messages.progress("storing")
    told = [json.loads(line)["progress"] for line in stream.getvalue().splitlines()]
    assert len(told) < 20
    assert (told[0]["step"], told[-2]["step"], told[-1]["stage"]) == (0, 1000, "storing")


def test_a_diverged_loss_does_not_end_the_run():
    stream = io.StringIO()
    Messages(stream).progress("walking", 1, 2, public_metrics={"phantom_loss": float("nan")})
    assert json.loads(stream.getvalue())["progress"]["metrics"] == {"phantom_loss": None}


def test_a_refusal_may_name_any_value():
    stream = io.StringIO()
    Messages(stream).send("problem", {"value": np.int64(3), "file": Path("a.png")})
    assert json.loads(stream.getvalue())["problem"] == {"value": "3", "file": "a.png"}


ORPHAN = """
import sys, time
from io import FileIO
from pathlib import Path
from workers.job import exit_when_orphaned
exit_when_orphaned(FileIO(0, closefd=False), Path(sys.argv[1]))
print("ready", flush=True)
time.sleep(60)
"""


def test_a_job_process_ends_and_wipes_its_scratch_when_its_supervisor_is_gone(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "private").write_bytes(b"x")
    with subprocess.Popen(
        [sys.executable, "-c", ORPHAN, str(scratch)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout.readline() == b"ready\n"
        child.stdin.close()
        assert child.wait(10) == Exit.ORPHANED
    assert not scratch.exists()
