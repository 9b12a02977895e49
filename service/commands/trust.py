"""`kaima verify` and `kaima audit`: check what others made, without trusting a service."""

# ruff: noqa: PLC0415 - a command imports what it needs when it runs, so that others start quickly

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import httpx

from service.commands.accounts import pin_instance
from service.commands.console import EXIT_FAILED, Session, with_session
from service.profile import PinChanged, pins
from service.profile import trust as add_pin

_AUDIT_NEEDS = ("jinja2", "matplotlib", "PIL")
_INTERRUPTED = 130


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--public-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM of the key you trust. Without it: the key pinned at first use of the service.",
)
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--digests-only", is_flag=True, help="Do not compare the formats image by image.")
@with_session
def verify(
    session: Session, path: Path, public_key: Path | None, *, out: Path | None, digests_only: bool
) -> None:
    """Check every file of a bundle, its signature, and re-derive its epsilon.

    PATH is the downloaded .zip or the folder it was unpacked to. If all is as signed, its formats
    are compared image by image, as far as their libraries are installed (kaima[formats]).
    Exit code: 0 accepted, 1 refused, 2 wrong usage.
    """
    result = _verify(session, path, public_key)
    _compare_formats(result, None if digests_only else path)
    if out is not None:
        out.write_text(json.dumps(result, indent=2), encoding="utf-8")
    if session.as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        _explain(result)
    sys.exit(0 if result["accepted"] else EXIT_FAILED)


@click.command()
@click.argument("fingerprint")
@with_session
def trust(session: Session, fingerprint: str) -> None:
    """Trust one more signing key of the service: its FINGERPRINT, told by its operator.

    Needed after the service has rotated its key. Releases signed with the older keys stay
    verifiable.
    """
    try:
        add_pin(session.profile.url.rstrip("/"), fingerprint)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    click.echo(f"The key {fingerprint} is trusted for {session.profile.url}.")


@click.command()
@click.option("--members", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--holdout", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--synthetic", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--reference", type=click.Path(exists=True, path_type=Path))
@click.option("--tier", type=click.Choice(["public", "registered", "enclave"]))
@click.option(
    "--depth", type=click.Choice(["quick", "full"]), help="full: what takes long as well."
)
@click.option(
    "--split",
    type=click.Choice(["coins", "random", "unknown"]),
    help="How members were told from the holdout; unknown by default.",
)
@click.option("--epsilon", type=float, help="What the release claims, if it claims anything.")
@click.option("--delta", type=float, help="Of that claim; 1e-5 by default.")
@click.option("--shared-ids", is_flag=True, help="One id in two sets is one person.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--attempt", type=click.IntRange(min=1), help="1 by default; every retry must be counted."
)
@click.option("--seed", type=click.IntRange(min=0), help="Of folds, specimens and permutations.")
def audit(out: Path | None, *, shared_ids: bool, **given: Path | str | float | None) -> None:
    """Audit synthetic records against members and a holdout, on this machine.

    Folders of images, or .npz with `images` or a 2-D `table`, and optionally `person_ids`, `labels`
    and `score_NAME` (the generator's own scores of its records).
    Exit code: 0 PASS, 1 FAIL, 3 INCONCLUSIVE, 4 INVALID, 2 wrong usage, 5 an error inside.
    """
    absent = [name for name in _AUDIT_NEEDS if importlib.util.find_spec(name) is None]
    if absent:
        raise click.UsageError(
            f"The audit needs {', '.join(absent)}, which is not installed: install kaima[worker]."
        )
    command = [sys.executable, "-m", "workers.audit_files"]
    for name, value in {**given, "json": out}.items():
        if value is not None:
            command += [f"--{name}", str(value)]
    if shared_ids:
        command.append("--shared-ids")
    try:
        done = subprocess.run(command, check=False)  # noqa: S603 - our own module
    except KeyboardInterrupt:  # 1, as elsewhere, would read as FAIL
        sys.exit(_INTERRUPTED)
    sys.exit(done.returncode)


def _verify(session: Session, path: Path, public_key: Path | None) -> dict[str, Any]:
    from privacy.bundle import verify_bundle

    if public_key is not None:
        return _document(verify_bundle(path, public_key=public_key))
    results = []
    for fingerprint in _trusted(session):
        results.append(verify_bundle(path, pinned_fingerprint=fingerprint))
        if results[-1].accepted:
            return _document(results[-1])
    if not results:
        click.echo(
            "No signing key is trusted here yet: give --public-key FILE, or run `kaima login` so "
            "that the service's key is pinned. A key that comes inside the bundle proves nothing.",
            err=True,
        )
        results.append(verify_bundle(path))  # with neither it refuses, and says what it found
    # The key that fits tells what else is wrong; the others only that they do not fit.
    return _document(max(results, key=lambda result: result.signed_by is not None))


def _compare_formats(result: dict[str, Any], path: Path | None) -> None:
    """Add to the result what the formats hold; refuse the bundle where two of them differ."""
    result["formats"] = []
    if path is None or not result["accepted"]:
        return
    from service.bundle_formats import compare

    found = compare(path)
    result["formats"] = [asdict(check) for check in found.formats]
    result["problems"] = [{"file": file, "reason": reason} for file, reason in found.problems]
    result["accepted"] = not found.problems


def _trusted(session: Session) -> Iterator[str]:
    """Yield pinned fingerprints, the profile's service first; pin it if this is its first use."""
    known = pins()
    url = session.profile.url.rstrip("/")
    if url in known:
        yield from reversed(known.pop(url))
    elif not known:
        try:
            with session.profile.client() as client:
                yield pin_instance(client)
        except (httpx.TransportError, PinChanged):
            return
    for keys in known.values():
        yield from keys


def _document(result: Any) -> dict[str, Any]:
    document: dict[str, Any] = result.model_dump(mode="json")
    return document


def _explain(result: dict[str, Any]) -> None:
    if result["accepted"]:
        one = "row" if any(found["rows"] for found in result["formats"]) else "image"
        click.echo(
            f"Accepted: {result['files_checked']} files unchanged, signed by "
            f"{result['signed_by']}.\n"
            f"epsilon {result['epsilon_stated']} is stated; {result['epsilon_rederived']} follows "
            f"from the mechanisms that the signer attests (delta {result['delta']}, "
            f"{result['relation']}, per {one if result['unit'] == 'record' else 'person'})."
        )
        if not result["formats"]:
            click.echo("Its formats were NOT COMPARED with one another.")
        for found in result["formats"]:
            count = f"{found['rows']} rows" if found["rows"] else f"{found['images']} images"
            says = f"{count}, equal" if found["checked"] else found["reason"]
            click.echo(f"{found['format']}: {says if found['checked'] else f'NOT CHECKED: {says}'}")
        return
    click.echo("REFUSED. Do not use this bundle.", err=True)
    reasons: dict[str, list[str]] = {}
    for problem in result["problems"]:
        reasons.setdefault(problem["file"], []).append(problem["reason"])
    for file, found in reasons.items():
        click.echo(f"  {file}: {'; '.join(found)}", err=True)
