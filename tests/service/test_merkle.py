"""The tree's hashes and proofs are those of RFC 6962, whoever computes them."""

import hashlib

import pytest
from pymerkle import InmemoryTree

from service.domain import merkle
from service.domain.merkle import Frontier

# The leaves and roots of Google's Certificate Transparency test data, sizes 0 to 8.
LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
# pymerkle lays its consistency proofs out in another way, so these come from the same test data.
CONSISTENCY = {
    (1, 1): (),
    (1, 8): (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    (6, 8): (
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
    (2, 5): (
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ),
}
MOST = 40


def subtrees(leaves: list[bytes]) -> tuple[dict[merkle.Node, bytes], list[bytes]]:
    """Return every complete subtree, and the root at each size."""
    frontier, nodes, roots = Frontier(), {}, [merkle.EMPTY_ROOT]
    for leaf in leaves:
        nodes |= dict(frontier.add(merkle.leaf_hash(leaf)))
        roots.append(frontier.root())
    return nodes, roots


def path(nodes: dict[merkle.Node, bytes], ranges: list[merkle.Range]) -> list[bytes]:
    """Return the hashes of ranges from complete subtrees."""
    return [
        merkle.fold([nodes[node] for node in merkle.cover(first, end)]) for first, end in ranges
    ]


def test_roots_are_those_of_certificate_transparency() -> None:
    assert [root.hex() for root in subtrees(LEAVES)[1]] == list(ROOTS)


def test_every_root_and_inclusion_proof_is_the_one_that_pymerkle_makes() -> None:
    leaves = [bytes([number]) * 32 for number in range(MOST)]
    nodes, roots = subtrees(leaves)
    reference = InmemoryTree(algorithm="sha256")
    for leaf in leaves:
        reference.append_entry(leaf)
    for size in range(1, MOST + 1):
        assert reference.get_root(size) == roots[size]
        for index in range(size):
            mine = path(nodes, merkle.inclusion_ranges(index, size))
            theirs = reference.prove_inclusion(index + 1, size).path
            assert mine == theirs[1:]


@pytest.mark.parametrize(("sizes", "steps"), CONSISTENCY.items(), ids=str)
def test_consistency_proofs_are_those_of_certificate_transparency(
    sizes: tuple[int, int], steps: tuple[str, ...]
) -> None:
    nodes, _ = subtrees(LEAVES)
    assert [step.hex() for step in path(nodes, merkle.consistency_ranges(*sizes))] == list(steps)


def test_proofs_hold_and_any_other_root_size_index_or_path_is_refused() -> None:
    leaves = [hashlib.sha256(bytes([number])).digest() for number in range(MOST)]
    nodes, roots = subtrees(leaves)
    for size in range(1, MOST + 1):
        for index in range(size):
            steps = path(nodes, merkle.inclusion_ranges(index, size))
            leaf = merkle.leaf_hash(leaves[index])
            holds = {"index": index, "size": size, "path": steps, "root": roots[size]}
            assert merkle.is_included(leaf, **holds)
            assert not merkle.is_included(merkle.leaf_hash(b"other"), **holds)
            assert not merkle.is_included(leaf, **{**holds, "root": roots[size - 1]})
            assert not merkle.is_included(leaf, **{**holds, "index": (index + 1) % (size + 1)}) or (
                size == 1
            )
            assert not merkle.is_included(leaf, **{**holds, "path": [*steps, leaf]})
            assert not steps or not merkle.is_included(leaf, **{**holds, "path": steps[1:]})
        for old in range(1, size + 1):
            steps = path(nodes, merkle.consistency_ranges(old, size))
            told = {"old": old, "old_root": roots[old], "new": size, "new_root": roots[size]}
            assert merkle.is_prefix(**told, path=steps)
            assert not merkle.is_prefix(**{**told, "old_root": roots[old - 1]}, path=steps)
            assert not merkle.is_prefix(**{**told, "new_root": roots[size - 1]}, path=steps)
            assert not merkle.is_prefix(**told, path=[*steps, roots[1]])


@pytest.mark.parametrize(("index", "size"), [(0, 0), (3, 3), (-1, 3)])
def test_a_leaf_outside_the_tree_has_no_proof(index: int, size: int) -> None:
    with pytest.raises(ValueError, match=f"the tree has {size} leaves"):
        merkle.inclusion_ranges(index, size)


def test_a_size_outside_the_tree_has_no_consistency_proof() -> None:
    with pytest.raises(ValueError, match="it must be 1 to 3"):
        merkle.consistency_ranges(4, 3)
