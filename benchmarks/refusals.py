"""Refuse bad input in one sentence, with exit status 2, before a benchmark measures anything."""

import contextlib
import secrets
from collections.abc import Collection, Iterator
from pathlib import Path

import click
import torch
from pydantic import ValidationError

from privacy.errors import InvalidParameter
from service.domain.errors import InputRefused
from service.walkthrough.declaration import UploadRefused

# Code that a walkthrough shares with us names make variables; a benchmark has options.
_OPTIONS = (
    ("UNIT=record", "--unit record"),
    ("UNIT=person", "--unit person"),
    ("LABEL=", "--label"),
)


class Refused(click.ClickException):
    """Bad input: the sentence says what was refused and what to give instead."""

    exit_code = 2


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Turn the refusals of the code that is measured into ours."""
    try:
        yield
    except (UploadRefused, InvalidParameter) as error:
        raise Refused(_with_options(str(error))) from None
    except InputRefused as error:
        raise Refused(_with_options(error.sentence)) from None
    except ValidationError as error:
        raise Refused(f"The input was refused: {_first(error)}.") from None
    except OSError as error:
        name = Path(str(error.filename)).name if error.filename else "A file"
        raise Refused(
            f"{name} was refused: {error.strerror or error}. Give a file or folder that can be used."
        ) from None


@contextlib.contextmanager
def refusing_settings(generator: str, fields: Collection[str]) -> Iterator[None]:
    """Turn what a generator's configuration refuses into a sentence about --set."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            why = f"{generator} has no such field; it has {', '.join(sorted(fields))}"
        else:
            why = f"{first['input']!r} does not fit ({first['msg']})"
        raise Refused(f"--set {name or 'FIELD=VALUE'} was refused: {why}.") from None


def check_writable(*, folder: Path | None = None, file: Path) -> None:
    """Try whether the folder and the file's folder can be written to, before hours of work.

    Raises: Refused naming the option.
    """
    places = {"--json": file.parent} | ({} if folder is None else {"--out": folder})
    for option, place in places.items():
        probe = place / f".probe.{secrets.token_hex(4)}"
        try:
            place.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise Refused(
                f"{option} was refused: {place} cannot be written to ({error.strerror}). Give "
                "another place."
            ) from None


def check_device(name: str) -> None:
    """Refuse a GPU that torch does not find."""
    if name == "cuda" and not torch.cuda.is_available():
        raise Refused("--device cuda was refused: torch finds no GPU. Give --device cpu.")


def _with_options(sentence: str) -> str:
    for variable, option in _OPTIONS:
        sentence = sentence.replace(variable, option)
    return sentence


def _first(error: ValidationError) -> str:
    found = error.errors()[0]
    where = ".".join(map(str, found["loc"]))
    return f"{where}: {found['msg']}" if where else str(found["msg"])
