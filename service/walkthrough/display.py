"""Show a walkthrough: a progress bar with the time left on a terminal, plain lines elsewhere."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from service.resources import Job

Advance = Callable[[int, int], None]
"""Called with how much is done and how much there is in all."""


class Display:
    """Prints steps, and remembers how many seconds each took."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}

    def say(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, highlight=False)

    def say_whole(self, text: str) -> None:
        """Print one line that somebody will copy: never wrapped."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def step(self, name: str, title: str) -> Iterator[Advance]:
        """Time a step under `name`; yield a function that moves its bar."""
        started = time.monotonic()
        bars = Progress(
            TextColumn("{task.description:<34}"),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TextColumn("elapsed"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        with bars:
            bar = bars.add_task(title, total=None)
            try:
                yield lambda done, total: bars.update(bar, completed=done, total=total or None)
            finally:
                elapsed = time.monotonic() - started
                self.seconds[name] = self.seconds.get(name, 0.0) + elapsed
        self.say(f"  {title:<44} {elapsed:8.1f} s")

    @contextlib.contextmanager
    def jobs(self, titles: dict[str, str]) -> Iterator[Callable[[Job], None]]:
        """Time a chain of jobs by kind; yield what to call with each look at the current job."""
        with contextlib.ExitStack() as stack:
            advance: Advance | None = None
            current = ""

            def look(job: Job) -> None:
                nonlocal advance, current
                if job.kind != current:
                    stack.close()
                    current = job.kind
                    advance = stack.enter_context(self.step(job.kind, titles[job.kind]))
                if advance is not None:
                    advance(job.step, job.total)

            yield look
