"""Files that the utility benchmark leaves behind: samples, contact sheets, tried configurations."""

import io
import json
import os
from pathlib import Path

import numpy as np

from benchmarks.refusals import Refused
from privacy.manifests import DatasetSchema
from training.utility import Labelled
from workers.contact_sheet import Block, draw_contact_sheet, write_private

_ROOT = Path(__file__).resolve().parent.parent
_TRIED = "configurations_tried.json"


class Output:
    """The folder that --out names, and the document that --json names."""

    def __init__(self, folder: Path, *, document: Path) -> None:
        self.folder = folder
        self.document = document
        folder.mkdir(parents=True, exist_ok=True)

    def save(
        self, name: str, synthetic: Labelled, caption: str, schema: DatasetSchema
    ) -> dict[str, str]:
        """Write a synthetic set and its contact sheet; return their paths from the repository."""
        arrays, sheet = self.folder / f"{name}.npz", self.folder / f"{name}.png"
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer, train_images=synthetic.images, train_labels=synthetic.labels.astype(np.int16)
        )
        write_private(arrays, buffer.getvalue(), mode=0o644)
        block = Block("synthetic", synthetic.images, synthetic.labels)
        content = draw_contact_sheet(
            [block], label=schema.label, labels=schema.labels, caption=caption, warning=None
        )
        write_private(sheet, content, mode=0o644)
        return {"samples_file": from_root(arrays), "contact_sheet": from_root(sheet)}

    def read(self, name: str) -> Labelled:
        """Return a synthetic set that was saved."""
        with np.load(self.folder / f"{name}.npz", allow_pickle=False) as arrays:
            return Labelled.of(arrays["train_images"], arrays["train_labels"])

    def count_configuration(self, data_digest: str, configuration: str) -> int:
        """Note that a configuration looks at this data; return how many distinct ones have.

        The same configuration at another epsilon or seed is not another one.
        Raises: Refused if the file of earlier ones cannot be read.
        """
        path = self.folder / _TRIED
        try:
            tried = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            of_data = set(tried.get(data_digest, []))
        except (ValueError, AttributeError, TypeError) as error:
            raise Refused(
                f"{_TRIED} in --out was refused: it cannot be read ({error}). Give another folder."
            ) from None
        of_data.add(configuration)
        tried[data_digest] = sorted(of_data)
        write_private(path, json.dumps(tried, indent=1).encode())
        return len(of_data)


def from_root(path: Path) -> str:
    """Return a path relative to the repository root."""
    return Path(os.path.relpath(path.resolve(), _ROOT)).as_posix()
