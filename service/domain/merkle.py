"""The Merkle tree of RFC 6962 (section 2 of RFC 9162): hashes, which nodes a proof takes, checks.

Pure: nothing here stores or reads. Own code, because the proofs must be made from a few subtree
hashes of our own table; pymerkle 7 walks every leaf for a proof. Its proofs are the reference that
the tests compare with.

A *node* is a complete subtree, named (level, position): it covers the leaves from
position · 2^level up to, not including, (position + 1) · 2^level. Leaves count from zero.
"""

import hashlib
from collections.abc import Iterator, Sequence

Node = tuple[int, int]
Range = tuple[int, int]
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(content: bytes) -> bytes:
    """Return the hash of a leaf: its prefix tells it from an inner node."""
    return hashlib.sha256(b"\x00" + content).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def fold(hashes: Sequence[bytes]) -> bytes:
    """Return the root over complete subtrees that stand side by side, the largest first."""
    if not hashes:
        return EMPTY_ROOT
    root = hashes[-1]
    for left in reversed(hashes[:-1]):
        root = node_hash(left, root)
    return root


def cover(first: int, end: int) -> list[Node]:
    """Return the complete subtrees that make up the leaves first … end - 1, the largest first.

    `first` must be a multiple of the largest one, as it is in every range of a proof.
    """
    nodes = []
    while first < end:
        level = (end - first).bit_length() - 1
        nodes.append((level, first >> level))
        first += 1 << level
    return nodes


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """Return the ranges whose roots lead from leaf `index` to the root of `size` leaves."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} was refused: the tree has {size} leaves")
    ranges = []
    first, end = 0, size
    while end - first > 1:
        split = _split(first, end)
        if index < split:
            ranges.append((split, end))
            end = split
        else:
            ranges.append((first, split))
            first = split
    return ranges[::-1]


def consistency_ranges(old: int, new: int) -> list[Range]:
    """Return the ranges whose roots show that the first `old` of `new` leaves are unchanged."""
    if not 0 < old <= new:
        raise ValueError(f"old size {old} was refused: it must be 1 to {new}")
    ranges = []
    first, end = 0, new
    while end != old:
        split = _split(first, end)
        if old <= split:
            ranges.append((split, end))
            end = split
        else:
            ranges.append((first, split))
            first = split
    if first > 0:  # else the verifier has this root: it is the old tree's own
        ranges.append((first, end))
    return ranges[::-1]


def is_included(leaf: bytes, *, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Return whether `path` leads from a leaf's hash to `root` (RFC 9162, section 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    place, last, found = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if place & 1 or place == last:
            found = node_hash(sibling, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and found == root


def is_prefix(
    *, old: int, old_root: bytes, new: int, new_root: bytes, path: Sequence[bytes]
) -> bool:
    """Return whether the old tree's leaves begin the new one's (RFC 9162, section 2.1.4.2)."""
    if old == new:
        return not path and old_root == new_root
    if not 0 < old < new or not path:
        return old == 0 and not path and old_root == EMPTY_ROOT
    hashes = list(path)
    if old & (old - 1) == 0:
        hashes.insert(0, old_root)
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    first = second = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root


class Frontier:
    """The right edge of a growing tree: the roots of its complete subtrees, the largest first."""

    def __init__(self, size: int = 0, roots: Sequence[bytes] = ()) -> None:
        self.size = size
        self._roots = list(roots)

    def add(self, leaf: bytes) -> Iterator[tuple[Node, bytes]]:
        """Append one leaf's hash; yield every complete subtree that it ends, itself first."""
        level, found = 0, leaf
        yield (0, self.size), found
        while self.size >> level & 1:
            found = node_hash(self._roots.pop(), found)
            level += 1
            yield (level, self.size >> level), found
        self._roots.append(found)
        self.size += 1

    def root(self) -> bytes:
        """Return the root over everything that was added."""
        return fold(self._roots)


def _split(first: int, end: int) -> int:
    """Return where the left subtree ends: the largest power of two below the number of leaves."""
    return int(first + (1 << ((end - first - 1).bit_length() - 1)))
