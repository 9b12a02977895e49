"""Writes the PNG files, in folders by label, with a metadata.csv in each split.

`datasets.load_dataset("imagefolder")` reads the table, torchvision's ImageFolder the folders. The
table stands inside its split: beside the splits it would be read as a split of its own.
"""

import csv
from pathlib import Path
from typing import TextIO

from workers.bundling.records import Record, SyntheticSet

NAME = "imagefolder"
COLUMNS = ("file_name", "label")


class ImageFolderWriter:
    """Writes imagefolder/<split>/<label>/NNNNNN.png and imagefolder/<split>/metadata.csv."""

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
    """Writes metadata.csv: the file of each image, relative to the table, and its label."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, mode=0o755)
        self._stream: TextIO = (folder / "metadata.csv").open("w", newline="", encoding="utf-8")
        self._rows = csv.writer(self._stream, lineterminator="\n")
        self._rows.writerow(COLUMNS)

    def add(self, file_name: str, label: str) -> None:
        """Write one row."""
        self._rows.writerow([file_name, label])

    def close(self) -> None:
        """Close the table."""
        self._stream.close()
