"""`kaima demo`: the whole job on one machine, through HTTP, by the actors who may take each step.

Makes phantom radiographs (or takes the user's file), starts the embedded stack in build/demo, and
goes from upload to a verified download. In a demo the auditors' decision follows from the verdict.
Exit: 0 verified download, 2 input refused, 3 not releasable, 1 anything else.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import httpx
from pydantic import ValidationError
from rich.console import Console

from privacy.mechanisms import UnitOfPrivacy
from service.client import JobFailed, ProblemError
from service.stack import Stack
from service.walkthrough.actors import Actors, make_actors
from service.walkthrough.declaration import UploadRefused
from service.walkthrough.display import Display
from service.walkthrough.example import fill_example, signing_in
from service.walkthrough.preparation import (
    DEFAULT_GENERATOR,
    DEFAULTS,
    EXAMPLES,
    JOINT_GENERATOR,
    OUT,
    PHANTOM_LABEL,
    PHANTOM_PERSONS,
    TABLE_GENERATOR,
    Options,
    prepare_upload,
)
from service.walkthrough.stack import StackFailed, first_operator_key, running_stack
from service.walkthrough.steps import NotReleasable, Request, Walkthrough
from service.walkthrough.summary import PATHS, summarise, write_summary
from service.walkthrough.verification import Verification, verify_and_tamper

SAMPLES = {"public": 8000, "registered": 5000, "enclave": 5000}
"""Enough that the share of copied samples can be bounded below each tier's tolerance."""

_REFUSALS = {400, 409, 413, 415, 422}
EXIT_OK, EXIT_FAILED, EXIT_REFUSED, EXIT_NOT_RELEASABLE = 0, 1, 2, 3


@dataclass
class _Outcome:
    """How a demo ended."""

    code: int
    reason: str
    sentence: str


@click.command(name="kaima demo", context_settings={"show_default": True})
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Your own .zip or .npz; with --schema a table, or a .zip of images with their table.",
)
@click.option(
    "--schema",
    default="",
    help="TOML that declares the table in --data, with images or without; "
    + "; ".join(f"'{name}': {example.what}" for name, example in EXAMPLES.items())
    + ".",
)
@click.option("--label", default=PHANTOM_LABEL, help="Column of the label.")
@click.option("--labels", default="", help="Comma-separated label set; empty: the one in the file.")
@click.option("--unit", type=click.Choice(["person", "record"]), default="person")
@click.option("--epsilon", type=click.FloatRange(0, min_open=True), default=5.0)
@click.option("--delta", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=1e-5)
@click.option(
    "--tier", type=click.Choice(["public", "registered", "enclave"]), default="registered"
)
@click.option(
    "--generator",
    default="",
    help=f"See `kaima train generators`; empty: {DEFAULT_GENERATOR}; of tables {TABLE_GENERATOR}, "
    f"with images {JOINT_GENERATOR}.",
)
@click.option(
    "--persons",
    type=click.IntRange(50),
    help=f"Phantoms to make; default {PHANTOM_PERSONS}, "
    + ", ".join(f"{example.persons} for '{name}'" for name, example in EXAMPLES.items())
    + ".",
)
@click.option("--samples", type=click.IntRange(1, 200_000), help="Default: by tier.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=OUT)
@click.option("--keep", is_flag=True, help="Leave the stack running at the end.")
def command(labels: str, unit: str, **options: Any) -> int:
    """Run the whole walkthrough: phantoms, or your own images or table, to a verified download."""
    names = tuple(name.strip() for name in labels.split(",") if name.strip())
    return run(Options(labels=names, unit=UnitOfPrivacy(unit), **options))


def main(arguments: list[str]) -> int:
    """Run the demo with command-line arguments; return its exit code."""
    try:
        code: int = command.main(arguments, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return EXIT_REFUSED
    except click.exceptions.Abort:
        return EXIT_FAILED
    return code


def run(options: Options) -> int:
    """Run the demo; return its exit code."""
    display = Display(Console(stderr=True))
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))  # ends as cleanly as Ctrl-C
    options.out.mkdir(parents=True, exist_ok=True)
    for name in ("summary.json", "api_keys.json", *PATHS.values()):
        (options.out / name).unlink(missing_ok=True)  # nobody shall read an earlier demo's answer
    for bundle in options.out.glob("synthetic-*.zip"):
        bundle.unlink()
    _note_install_seconds(display)
    try:
        upload, declaration = prepare_upload(options, display)
    except (UploadRefused, ValidationError) as error:
        display.say(f"[red]Refused:[/red] {error}")
        return EXIT_REFUSED
    generator, name = DEFAULTS[declaration.schema.modality]
    request = Request(
        upload=upload,
        declaration=declaration,
        epsilon=options.epsilon,
        delta=options.delta,
        tier=options.tier,
        generator=options.generator or generator,
        config={},
        samples=options.samples or SAMPLES[options.tier],
        name=name,
    )
    try:
        return _with_stack(options, request, display)
    except (StackFailed, OSError) as error:
        display.say(f"[red]The stack failed:[/red] {error}")
        return EXIT_FAILED
    except KeyboardInterrupt:
        display.say("Stopped.")
        return EXIT_FAILED


def _with_stack(options: Options, request: Request, display: Display) -> int:
    """Start the stack, walk, write the summary; the stack ends with the demo unless kept."""
    started = time.monotonic()
    with running_stack(options.out / "state", keep=options.keep) as stack:
        display.seconds["start"] = time.monotonic() - started
        display.say(f"The stack runs at {stack.web_url}; its logs are in {stack.folder / 'logs'}.")
        actors = make_actors(stack.web_url, first_operator_key(stack))
        walk = Walkthrough(actors, request, display, options.out)
        verification: list[Verification] = []
        outcome = _outcome(lambda: verification.append(_walk(walk, actors)))
        if options.keep:
            fill_example(actors, walk, display, scratch=options.out)
        actors.close()
        if options.keep:
            write_summary(options.out / "api_keys.json", actors.keys | actors.links)
        _write_documents(walk, display, public=options.data is None)
        summary = summarise(
            request,
            walk.record,
            verification=verification[0] if verification else None,
            seconds=display.seconds,
            out=options.out,
            exit_reason=outcome.reason,
        )
        write_summary(options.out / "summary.json", summary)
        display.say(outcome.sentence)
        _say_where(options, display, stack)
        if options.keep:
            for line in signing_in(actors, stack.web_url):
                display.say_whole(line)
    return outcome.code


def _walk(walk: Walkthrough, actors: Actors) -> Verification:
    instance = actors.owner.instance()
    public_key = walk.out / "public_key.pem"
    public_key.write_text(instance.public_key, encoding="ascii")
    walk.upload()
    walk.train()
    walk.check_verdict()
    walk.review()
    walk.publish()
    bundle = walk.download()
    with walk.display.step("verify", "Collaborator: verifying, and tampering"):
        verification = verify_and_tamper(bundle, public_key=public_key, scratch=walk.out)
    if not (verification.accepted and verification.tampered_refused):
        raise RuntimeError(f"The verifier answered {json.dumps(verification.answer)[:500]}")
    return verification


def _outcome(walk: Callable[[], None]) -> _Outcome:
    try:
        walk()
    except NotReleasable as error:
        return _Outcome(
            EXIT_NOT_RELEASABLE, "not_releasable", f"[red]Not releasable:[/red] {error}"
        )
    except JobFailed as error:
        refused = error.job.kind == "ingest" and (error.job.problem or {}).get("status") != 500
        code, reason = (EXIT_REFUSED, "input_refused") if refused else (EXIT_FAILED, "job_failed")
        word = "Refused" if refused else "Failed"
        return _Outcome(code, reason, f"[red]{word}:[/red] {error}")
    except ProblemError as error:
        refused = error.status in _REFUSALS
        code, reason = (EXIT_REFUSED, "input_refused") if refused else (EXIT_FAILED, error.slug)
        return _Outcome(code, reason, f"[red]Refused:[/red] {error}")
    except (httpx.HTTPError, RuntimeError, TimeoutError, OSError) as error:
        return _Outcome(EXIT_FAILED, "failed", f"[red]Failed:[/red] {error}")
    sentence = "[green]A collaborator downloaded the release and verified it.[/green]"
    return _Outcome(EXIT_OK, "verified", sentence)


def _write_documents(walk: Walkthrough, display: Display, *, public: bool) -> None:
    """Keep the report and draw the contact sheet, for the owner's eyes only."""
    if walk.record.report:
        path = walk.out / "report.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(walk.record.report, indent=2), encoding="utf-8")
    if walk.record.bundle is None or not walk.request.holds_images:
        return
    sheet = walk.out / "contact_sheet.png"
    command = [sys.executable, "-m", "workers.contact_sheet", "--real", str(walk.request.upload)]
    if not walk.request.holds_rows:
        command += ["--label", walk.request.declaration.target]
    command += ["--synthetic", str(walk.record.bundle), "--out", str(sheet)]
    if public:
        command.append("--input-is-public")
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        display.say(f"The contact sheet was not drawn: {done.stderr.strip()[-500:]}")


def _say_where(options: Options, display: Display, stack: Stack) -> None:
    names = {
        "Report (measured on real data, not for release)": options.out / "report.html",
        "Input beside synthetic (not for release)": options.out / "contact_sheet.png",
        "Summary": options.out / "summary.json",
    }
    bundles = sorted(options.out.glob("synthetic-*.zip"))
    if bundles:
        names["Bundle"] = bundles[-1]
    for name, path in names.items():
        if path.exists():
            display.say(f"  {name + ':':<46} {os.path.relpath(path)}")
    if options.keep:
        display.say(
            f"  {'API keys, to sign in with:':<46} {os.path.relpath(options.out / 'api_keys.json')}"
        )
        display.say(
            f"The stack keeps running at {stack.web_url}. "
            f"Stop it: kill $(cat {os.path.relpath(stack.folder / 'supervisor.pid')})"
        )


def _note_install_seconds(display: Display) -> None:
    note = Path(sys.prefix) / ".kaima-install-seconds"
    if note.exists():
        display.seconds["install"] = float(note.read_text(encoding="ascii"))
