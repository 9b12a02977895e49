"""Writes the PNG files, in folders by label, with a metadata.jsonl in each split.

`datasets.load_dataset("imagefolder")` reads the table, torchvision's ImageFolder the folders. The
table stands inside its split: beside the splits it would be read as a split of its own. It is no
CSV: readers of those take the labels "0" and "01" for numbers, and spreadsheets some for formulas.
"""

import json
from pathlib import Path
from typing import TextIO

from workers.bundling.records import Record, SyntheticSet

NAME = "imagefolder"
TABLE = "metadata.jsonl"
COLUMNS = ("file_name", "label")


class ImageFolderWriter:
    """Writes imagefolder/<split>/<label>/NNNNNN.png and imagefolder/<split>/metadata.jsonl."""

    def __init__(self, root: Path, synthetic: SyntheticSet) -> None:
        self._folder = root / NAME
        self._labels = synthetic.schema.labels
        self._tables = {split: FileTable(self._folder / split) for split in synthetic.splits}

    def add(self, record: Record) -> None:
        """Write one image and its row."""
        path = self._folder / record.split / f"{record.stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        path.write_bytes(record.png)
        self._tables[record.split].add(f"{record.stem}.png", self._labels[record.label])

    def close(self) -> None:
        """Finish the tables."""
        for table in self._tables.values():
            table.close()


class FileTable:
    """Writes metadata.jsonl: the file of each image, relative to the table, and its label."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, mode=0o755)
        self._stream: TextIO = (folder / TABLE).open("w", newline="\n", encoding="utf-8")

    def add(self, file_name: str, label: str) -> None:
        """Write one row."""
        row = dict(zip(COLUMNS, (file_name, label), strict=True))
        self._stream.write(f"{json.dumps(row, ensure_ascii=False)}\n")

    def close(self) -> None:
        """Close the table."""
        self._stream.close()
