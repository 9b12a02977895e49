"""Check a downloaded bundle with `kaima verify`, and that tampered copies of it are refused."""

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Tamper = Callable[[Path], str]
"""Changes an unpacked bundle and returns the file that a refusal must name."""


@dataclass(frozen=True)
class Verification:
    """`answer` is the verifier's JSON about the true bundle; `named_file` what a refusal named."""

    answer: dict[str, Any]
    accepted: bool
    tampered_refused: bool
    named_file: str | None


def verify_and_tamper(bundle: Path, *, public_key: Path, scratch: Path) -> Verification:
    """Verify `bundle`, then a copy of it for each way to tamper."""
    code, answer = _verify(bundle, public_key, scratch / "verify.json")
    refused, named = [], None
    for tamper in (_flip_a_byte_of_a_record, _raise_the_claim, _add_a_file, _remove_a_file):
        copy = scratch / "tampered"
        shutil.rmtree(copy, ignore_errors=True)
        with zipfile.ZipFile(bundle) as archive:
            archive.extractall(copy)
        changed = tamper(copy)
        tampered_code, problems = _verify(copy, public_key, scratch / "tampered.json")
        files = [problem["file"] for problem in problems.get("problems", [])]
        refused.append(tampered_code == 1 and any(Path(name).name == changed for name in files))
        named = named or next((name for name in files if Path(name).name == changed), None)
    shutil.rmtree(scratch / "tampered", ignore_errors=True)
    (scratch / "tampered.json").unlink(missing_ok=True)
    return Verification(
        answer=answer,
        accepted=code == 0 and answer.get("accepted") is True,
        tampered_refused=all(refused),
        named_file=named,
    )


def _verify(path: Path, public_key: Path, out: Path) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "service.cli", "verify", str(path)]
    command += ["--public-key", str(public_key), "--json", str(out)]
    out.unlink(missing_ok=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if not out.exists():
        return done.returncode, {"problems": [], "error": done.stderr.strip()}
    return done.returncode, json.loads(out.read_text(encoding="utf-8"))


def _flip_a_byte_of_a_record(bundle: Path) -> str:
    """Change one image, or the rows of a table."""
    records = min([*bundle.rglob("csv/*.csv"), *bundle.rglob("*.png")])
    content = bytearray(records.read_bytes())
    content[len(content) // 2] ^= 1
    records.write_bytes(content)
    return records.name


def _raise_the_claim(bundle: Path) -> str:
    certificate = next(bundle.rglob("certificate.json"))
    document = json.loads(certificate.read_text(encoding="utf-8"))
    document["epsilon"] = document["epsilon"] / 2
    certificate.write_text(json.dumps(document), encoding="utf-8")
    return certificate.name


def _add_a_file(bundle: Path) -> str:
    certificate = next(bundle.rglob("certificate.json"))
    (certificate.parent / "extra.txt").write_text("not part of the release", encoding="utf-8")
    return "extra.txt"


def _remove_a_file(bundle: Path) -> str:
    records = next(iter([*bundle.rglob("*.npz"), *bundle.rglob("*.parquet")]))
    records.unlink()
    return records.name
