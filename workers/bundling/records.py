"""A synthetic set as every format writes it: images in one order, in declared splits, named once.

The split and the name of an image are the same in every format, and so is the order of the files and
rows, so that whoever opens two of them can compare image by image.
"""

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from privacy.errors import InvalidParameter
from privacy.manifests import DatasetSchema

_PLAIN_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?")
# Names that Windows keeps for devices, with or without an extension.
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)

TRAIN, TEST = "train", "test"


@dataclass(frozen=True, eq=False)
class Record:
    """One synthetic image. `number` counts over the whole set; `pixels` is (height, width)."""

    number: int
    split: str
    label: int
    folder: str
    pixels: NDArray[np.integer]

    @property
    def name(self) -> str:
        """Return the image's number as it stands in names."""
        return f"{self.number:06d}"

    @property
    def stem(self) -> str:
        """Return the name of the image's file in every format, without its suffix."""
        return f"{self.folder}/{self.name}"

    @cached_property
    def png(self) -> bytes:
        """Return the image as PNG, the same bytes wherever a format wants one."""
        target = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(self.pixels)).save(target, format="PNG")
        return target.getvalue()


@dataclass(frozen=True, eq=False)
class SyntheticSet:
    """Images (N, height, width) uint8 or uint16, labels (N,) as index into the declared labels.

    Images may be memory-mapped: they are read one at a time. `test_share` of each label's images,
    taken at even distances, form the split "test"; by default all of them are "train".
    """

    images: NDArray[np.integer]
    labels: NDArray[np.integer]
    schema: DatasetSchema
    test_share: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no format could hold.  Raises: InvalidParameter."""
        declared = (len(self.labels), self.schema.height, self.schema.width)
        dtype = np.uint8 if self.schema.bit_depth == 8 else np.uint16
        if self.images.shape != declared or self.images.dtype != dtype or not len(self.labels):
            raise InvalidParameter(
                f"A set of shape {self.images.shape} and type {self.images.dtype} was refused: "
                f"{declared} of {np.dtype(dtype)} with at least one image was declared."
            )
        if self.labels.min() < 0 or self.labels.max() >= len(self.schema.labels):
            raise InvalidParameter(
                f"A set with label {self.labels.min()} to {self.labels.max()} was refused: "
                f"{len(self.schema.labels)} labels are declared."
            )

    @cached_property
    def folders(self) -> tuple[str, ...]:
        """Return one folder name per label."""
        return folder_names(self.schema.labels)

    @cached_property
    def is_test(self) -> NDArray[np.bool_]:
        """Return which images belong to the split "test", (N,)."""
        ranks = np.zeros(len(self.labels), dtype=np.int64)
        for label in np.unique(self.labels):
            mine = self.labels == label
            ranks[mine] = np.arange(int(mine.sum()))
        # The share is a decimal such as 0.2: counted in thousandths, nothing is lost in rounding.
        share = round(self.test_share * 1000)
        chosen: NDArray[np.bool_] = (ranks + 1) * share // 1000 > ranks * share // 1000
        return chosen

    @cached_property
    def splits(self) -> dict[str, int]:
        """Return how many images each split holds; a split without images is not one."""
        test = int(self.is_test.sum())
        counts = {TRAIN: len(self.labels) - test, TEST: test}
        return {split: count for split, count in counts.items() if count}

    def numbers(self, split: str) -> NDArray[np.intp]:
        """Return the numbers of the images of one split, ascending."""
        return np.flatnonzero(self.is_test == (split == TEST))

    def records(self) -> Iterator[Record]:
        """Yield every image in order."""
        for number, (pixels, label) in enumerate(zip(self.images, self.labels, strict=True)):
            yield Record(
                number=number,
                split=TEST if self.is_test[number] else TRAIN,
                label=int(label),
                folder=self.folders[int(label)],
                pixels=pixels,
            )


def folder_names(labels: Sequence[str]) -> tuple[str, ...]:
    """Return one folder name per label: the label itself where every system takes it as a name."""
    return plain_names(labels, instead="label")


def plain_names(words: Sequence[str], *, instead: str) -> tuple[str, ...]:
    """Return one plain name per word: the word where it is one, else `instead` and its number."""
    names = [
        word
        if _PLAIN_LABEL.fullmatch(word) and not _DEVICE.fullmatch(word)
        else f"{instead}-{index}"
        for index, word in enumerate(words)
    ]
    folded = [name.casefold() for name in names]
    if len(set(folded)) == len(folded):
        return tuple(names)
    return tuple(f"{instead}-{index}" for index in range(len(words)))
