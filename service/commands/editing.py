"""`kaima edit`: edit a released set to a specification, on this machine."""

import importlib.util
import subprocess
import sys

import click

_NEEDS = ("jinja2", "matplotlib", "PIL")
_INTERRUPTED = 130


@click.group()
def edit() -> None:
    """Edit a released set: series, teaching sets, stress tests of a classifier. Costs no privacy."""


def _command(name: str, about: str) -> click.Command:
    @click.command(
        name,
        help=about,
        context_settings={"ignore_unknown_options": True, "help_option_names": []},
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def run(arguments: tuple[str, ...]) -> None:
        absent = [needed for needed in _NEEDS if importlib.util.find_spec(needed) is None]
        if absent:
            raise click.UsageError(
                f"Editing needs {', '.join(absent)}, which is not installed: install kaima[worker]."
            )
        command = [sys.executable, "-m", "workers.editing", name, *arguments]
        try:
            done = subprocess.run(command, check=False)  # noqa: S603 - our own module
        except KeyboardInterrupt:
            sys.exit(_INTERRUPTED)
        sys.exit(done.returncode)

    return run


for _name, _about in (
    (
        "series",
        "Write a sheet in which one thing changes step by step; --help says what may change.",
    ),
    (
        "teach",
        "Write a teaching set: cases, answers apart from them, and a quiz page that keeps score.",
    ),
    ("stress", "Run a classifier (ONNX) over a series and report where its answer changes."),
):
    edit.add_command(_command(_name, _about))
