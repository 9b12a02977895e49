"""The whitelist of a release bundle: every file, and every key of every document in it.

A release carries what is declared public, mechanisms and epsilon, verdicts with thresholds fixed
beforehand, digests of its own files and salted commitments; nothing measured on real records. What
is not in whitelist.toml stops the packaging, so that a field which somebody adds to a document for
insiders cannot leave unnoticed.
"""

import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

from privacy.errors import InvalidParameter
from privacy.manifests import ReleaseCertificate
from privacy.modality import Modality

WHITELIST: dict[str, Any] = tomllib.loads(
    files("workers.bundling").joinpath("whitelist.toml").read_text(encoding="utf-8")
)
_WORDS = {
    "SPLIT": "(?:train|test)",
    "FOLDER": "[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
    "NUMBER": "[0-9]{6,9}",
}
_OPEN_TABLES = (
    "verdicts", "thresholds", "labels",
    "declared.constraints[].when", "declared.constraints[].then",
)  # fmt: skip
# Formats with one file for each record.
_FILE_EACH = {"imagefolder": ".png", "dicom": ".dcm"}
# Documents that not every bundle has.
_MAY_LACK = frozenset({"datapackage.json", "marginals.json"})


def _pattern(*lists: str) -> re.Pattern[str]:
    patterns = [pattern for name in lists for pattern in WHITELIST["files"][name]]
    joined = "|".join(f"(?:{pattern})" for pattern in patterns)
    return re.compile(re.sub("SPLIT|FOLDER|NUMBER", lambda word: _WORDS[word[0]], joined))


_FILES = {modality: _pattern("every", modality) for modality in get_args(Modality)}


def check(root: Path, certificate: ReleaseCertificate) -> None:
    """Refuse a bundle that holds a file or a key which is not on the whitelist.

    Raises: InvalidParameter naming the first of them.
    """
    allowed_files = _FILES[certificate.declared.modality]
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not allowed_files.fullmatch(name):
            raise InvalidParameter(_refusal(name))
    for name, allowed in WHITELIST["keys"].items():
        if name in _MAY_LACK and not (root / name).exists():
            continue
        document = read_document(root / name)
        # The context of JSON-LD is a fixed table of vocabularies.
        content = {key: value for key, value in document.items() if key != "@context"}
        added = set(keys_of(content)) - set(allowed)
        if added:
            raise InvalidParameter(_refusal(f"{min(added)} of {name}"))
    if certificate.layout != 2 or not certificate.formats:
        raise InvalidParameter("The bundle was refused: its certificate does not name its formats.")
    _check_counts(root, certificate)


def _check_counts(root: Path, certificate: ReleaseCertificate) -> None:
    """Refuse a format that was not certified, and more or fewer files of records than were."""
    found = Counter[tuple[str, str]]()
    for path in root.rglob("*"):
        folder, *inside = path.relative_to(root).parts
        if not inside or not path.is_file():
            continue
        if folder not in certificate.formats:
            raise InvalidParameter(
                f"The bundle was refused: {folder} is no format that its certificate names "
                f"({', '.join(certificate.formats)}). Remove the folder, or certify the format."
            )
        if path.suffix == _FILE_EACH.get(folder):
            found[folder, inside[0]] += 1
    expected = {
        (folder, split): count
        for folder in set(certificate.formats) & set(_FILE_EACH)
        for split, count in certificate.splits.items()
    }
    for folder, split in sorted(found.keys() | expected.keys()):
        counts = found[folder, split], expected.get((folder, split), 0)
        if counts[0] != counts[1]:
            raise InvalidParameter(
                f"The bundle was refused: {folder}/{split} holds {counts[0]} files of records; its "
                f"certificate names {counts[1]}. Write the bundle again, each record once."
            )


def keys_of(document: Any, prefix: str = "") -> Iterator[str]:
    """Yield the path of every key of a JSON document."""
    if isinstance(document, dict):
        for key, value in document.items():
            path = f"{prefix}.{key}" if prefix else key
            if prefix in _OPEN_TABLES:
                path = f"{prefix}.*"
            yield path
            yield from keys_of(value, path)
    elif isinstance(document, list):
        for value in document:
            yield from keys_of(value, f"{prefix}[]")


def read_document(path: Path) -> dict[str, Any]:
    """Return a JSON document, or the header of the card: a key a line, each value in JSON."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        document: dict[str, Any] = json.loads(text)
        return document
    _, header, _ = text.split("---\n", 2)
    pairs = (line.partition(": ") for line in header.splitlines())
    return {key: json.loads(value) for key, _, value in pairs}


def _refusal(what: str) -> str:
    return (
        f"The bundle was refused: {what} is not on the whitelist of what may leave. "
        "Remove it, or add it to workers/bundling/whitelist.toml and say why it may."
    )
