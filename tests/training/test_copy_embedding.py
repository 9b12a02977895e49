"""The copy embedding: what it learns from, that privacy/ runs it alike, and what it sees."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from privacy import audits
from privacy.copy_network import CopyNetwork
from privacy.distances import Gallery, image_spaces
from privacy.embedding import averaged, embedding_space, network_inputs
from privacy.errors import InvalidParameter
from privacy.evidence import Arm
from privacy.neighbourhoods import population_of, spaces_for
from privacy.policy import Depth, load_policy
from tests.privacy.audit_material import innocent, pictures, quick
from training import copy_embedding, phantoms
from training.copy_embedding import as_arrays, learn_copy_network, standardised
from workers.copy_network import with_copy_network


def alike(left: CopyNetwork, right: CopyNetwork) -> bool:
    pairs = zip((*left.kernels, left.readout), (*right.kernels, right.readout), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def turned(images: np.ndarray, degrees: float) -> np.ndarray:
    return ndimage.rotate(images, degrees, axes=(1, 2), reshape=False, order=1, mode="nearest")


@pytest.mark.parametrize("side", [28, 48])
def test_arrays_describe_pictures_as_the_torch_network_does(side):
    rng = np.random.default_rng(0)
    images = ndimage.zoom(pictures(220, rng), (1, side / 32, side / 32), order=1)
    network = copy_embedding.trained(images, seed=1, steps=3)
    seen = as_arrays(network, pictures=220)(network_inputs(averaged(images)))
    with torch.no_grad():
        inputs = standardised(torch.from_numpy(averaged(images))[:, None])
        expected = torch.nn.functional.normalize(network(inputs), dim=1).numpy()
    np.testing.assert_allclose(seen, expected, atol=1e-4)


def test_only_pictures_of_reference_half_a_reach_the_network():
    evidence = innocent(np.random.default_rng(1), persons=900)
    half_a = evidence.arms[evidence.persons] == Arm.REFERENCE_A
    others_changed = evidence.records.copy()
    others_changed[~half_a] = 255 - others_changed[~half_a]
    one_changed = evidence.records.copy()
    one_changed[np.flatnonzero(half_a)[0], :16] = 0
    first, others, own = (
        with_copy_network(replace(evidence, records=records), seed=3, steps=2).copy_network
        for records in (evidence.records, others_changed, one_changed)
    )
    assert first.pictures == half_a.sum()
    assert alike(first, others)
    assert not alike(first, own)


def test_persons_with_a_double_in_another_arm_are_left_out():
    evidence = innocent(np.random.default_rng(1), persons=900)
    excluded = evidence.arms == Arm.REFERENCE_A
    found = with_copy_network(replace(evidence, excluded=excluded), seed=0, steps=1)
    assert found.copy_network is None
    assert "holds 0 pictures" in found.no_copy_network


def test_too_few_pictures_are_refused_and_the_reason_is_reported():
    evidence = innocent(np.random.default_rng(2), persons=300)
    found = with_copy_network(evidence, seed=0)
    assert found.copy_network is None
    assert "needs 200" in found.no_copy_network
    with pytest.raises(InvalidParameter, match="199 pictures"):
        learn_copy_network(pictures(199, np.random.default_rng(0)), seed=0)


def test_a_blank_picture_is_as_far_from_everybody_as_strangers_are():
    images = pictures(200, np.random.default_rng(0))
    space = embedding_space(learn_copy_network(images, seed=0, steps=1))
    gallery = Gallery(space, images[:20], np.arange(20), count=20)
    (_, distances), *_ = gallery.search(np.full((1, 32, 32), 90, dtype=np.uint8))
    np.testing.assert_allclose(distances, np.sqrt(2), atol=1e-5)


def test_a_mirrored_copy_is_found_at_distance_zero():
    images = pictures(200, np.random.default_rng(0))
    space = embedding_space(learn_copy_network(images, seed=0, steps=1))
    gallery = Gallery(space, images, np.arange(200), count=200)
    (_, distances), *_ = gallery.search(images[:5, :, ::-1])
    np.testing.assert_allclose(np.diagonal(distances), 0, atol=2e-3)


def test_arrays_that_do_not_fit_are_refused():
    network = learn_copy_network(pictures(200, np.random.default_rng(0)), seed=0, steps=1)
    with pytest.raises(InvalidParameter, match="a kernel of shape"):
        replace(network, kernels=network.kernels[::-1])
    with pytest.raises(InvalidParameter, match="a readout of shape"):
        replace(network, readout=network.readout[1:])


@pytest.mark.slow
@pytest.mark.parametrize("depth", [Depth.QUICK, Depth.FULL])
def test_only_a_full_battery_looks_through_the_embedding(depth):
    evidence = innocent(np.random.default_rng(4), persons=900, samples=300)
    evidence = with_copy_network(evidence, seed=0, steps=30)
    report = audits.run_battery(
        evidence,
        policy=quick(load_policy()),
        tier="registered",
        attempt=1,
        rng=np.random.default_rng(0),
        depth=depth,
    )
    (finding,) = [f for f in report.findings if f.audit == "near_copies"]
    pictures_seen = finding.metric("embedding_pictures").value
    is_full = depth is Depth.FULL
    assert pictures_seen == (evidence.copy_network.pictures if is_full else None)
    assert ("embedding" in finding.details["ratio_thresholds"]) == is_full
    assert report.self_test_passed is not False


@pytest.mark.slow
def test_copies_turned_far_are_near_in_the_embedding_and_nowhere_else():
    knees, _ = phantoms.batch(1100, pixels=(48, 48), rng=np.random.default_rng(5))
    network = learn_copy_network(knees[:600], seed=0, steps=300)
    records = knees[600:1100]
    copies = turned(records[:100], 15.0)
    found = {}
    for space in (*image_spaces(), embedding_space(network)):
        gallery = Gallery(space, records, np.arange(500), count=500)
        nearest = np.concatenate([d.argmin(axis=1) for _, d in gallery.search(copies)])
        found[space.name] = float((nearest == np.arange(100)).mean())
    embedding = found.pop("embedding")
    assert embedding >= 0.6
    assert embedding >= max(found.values()) + 0.2, found


def test_evidence_without_a_network_is_searched_as_before():
    evidence = innocent(np.random.default_rng(6), persons=60, samples=20)
    names = [space.name for space in spaces_for(evidence, population_of(evidence))]
    assert names == [space.name for space in image_spaces()]
