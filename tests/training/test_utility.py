"""Scores mean what their names say; nothing is taught on the persons that it is judged on."""

import numpy as np
import pytest
import torch

from privacy.errors import InvalidParameter
from training.utility import Labelled, Task, augmentation, fidelity, light, score, shortcuts
from training.utility.dpimagebench import ARCHITECTURES, Architecture, DeepNetwork
from training.utility.fitting import Recipe
from training.utility.intervals import over_seeds
from training.utility.measures import measure
from training.utility.scoring import Effort

TASK = Task.of(["0", "1", "2", "3", "4"], name="KL")
QUICK = Effort(classifiers=("hog_linear",), most_steps=40)


def bars(count, rng, kinds=2, side=16):
    """Images of a bar, upright or lying: easy to tell apart, at no fixed place."""
    labels = rng.integers(0, kinds, count)
    images = rng.integers(0, 60, (count, side, side))
    for image, label in zip(images, labels, strict=True):
        at = rng.integers(4, side - 6)
        if label == 0:
            image[at : at + 3, 2:-2] = 220
        else:
            image[2:-2, at : at + 3] = 220
    return Labelled.of(images.astype(np.uint8), labels, np.arange(count) // 2)


TWO = Task.of(["lying", "upright"])


def test_grades_get_the_rule_of_osteoarthritis_and_digits_get_none():
    assert TASK.binary_rule == "KL >= 2"
    assert TASK.is_ordinal
    digits = Task.of([str(n) for n in range(10)])
    assert digits.binary_rule is None
    assert not digits.is_ordinal


def test_a_rule_that_names_no_label_is_refused():
    with pytest.raises(InvalidParameter, match="KL>=7"):
        Task.of(["0", "1", "2"], rule="KL>=7")
    assert Task.of(["0", "1", "2"], rule="KL>=1").threshold == 1


def test_a_rule_alone_does_not_put_labels_in_order():
    ruled = Task.of(["a", "b", "c"], name="kind", rule="kind>=b")
    assert (ruled.threshold, ruled.is_ordinal) == (1, False)
    assert Task.of(["a", "b", "c"], ordinal=True).is_ordinal
    assert not Task.of(["0", "1", "2"]).is_ordinal
    unordered = Task.of(["0", "1", "2", "3", "4"], ordinal=False)
    assert (unordered.threshold, unordered.is_ordinal) == (None, False)


@pytest.mark.parametrize("name", ["cnn", "mlp", "hog_linear"])
def test_a_small_and_a_large_set_are_taught_in_the_same_number_of_steps(name):
    rng = np.random.default_rng(10)
    test = bars(20, rng)
    found = {}
    for count in (20, 900):
        seen = []
        scored = score(
            bars(count, rng),
            test,
            task=TWO,
            effort=Effort(classifiers=(name,), most_steps=7),
            watch=lambda _name, done, total, seen=seen: seen.append((done, total)),
        )
        assert seen[-1] == (7, 7)
        found[count] = scored.as_json(TWO)[name]["steps"]
    assert found == {20: 7, 900: 7}
    few, many = bars(20, rng), bars(900, rng)
    assert light.steps_of(name, few) == light.steps_of(name, many)


def test_only_the_network_for_pixels_is_taught_less_on_large_images():
    rng = np.random.default_rng(11)
    small = bars(3, rng)
    large = Labelled.of(np.zeros((3, 64, 64), dtype=np.uint8), small.labels)
    steps = {
        name: (light.steps_of(name, small), light.steps_of(name, large))
        for name in light.CLASSIFIERS
    }
    assert steps == {"cnn": (5000, 1250), "mlp": (3000, 3000), "hog_linear": (1250, 1250)}
    assert light.described()["cnn_above_40_pixels"]["steps"] == 1250


def test_scores_agree_with_scikit_learn():
    from sklearn import metrics

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 300)
    table = rng.dirichlet(np.ones(5), 300)
    table[np.arange(300), labels] += 0.4 * rng.random(300)
    guessed = table.argmax(axis=1)
    found = measure(table, labels, np.arange(300), task=TASK, bootstraps=20)
    assert found.values["accuracy"] == pytest.approx(metrics.accuracy_score(labels, guessed))
    assert found.values["balanced_accuracy"] == pytest.approx(
        metrics.balanced_accuracy_score(labels, guessed)
    )
    assert found.values["qwk"] == pytest.approx(
        metrics.cohen_kappa_score(labels, guessed, weights="quadratic")
    )
    above = table[:, 2:].sum(axis=1)
    assert found.values["auc"] == pytest.approx(metrics.roc_auc_score(labels >= 2, above))
    low, high = found.intervals["auc"]
    assert low < found.values["auc"] < high


def test_a_missing_score_comes_with_its_reason():
    task = Task.of(["a", "b", "c"])
    found = measure(np.eye(3), np.zeros(3, int), np.arange(3), task=task).as_json(task)
    assert found["qwk"] is None
    assert found["qwk_reason"] == "the labels have no order"
    assert found["auc"] is None
    assert found["auc_reason"]


def test_the_bootstrap_draws_persons_and_not_images():
    rng = np.random.default_rng(1)
    right = np.repeat(rng.integers(0, 2, 30), 20)  # a person is all right or all wrong
    labels = rng.integers(0, 2, 600)
    table = np.eye(2)[np.where(right == 1, labels, 1 - labels)]
    by_person = measure(table, labels, np.arange(600) // 20, task=TWO).intervals["accuracy"]
    by_image = measure(table, labels, np.arange(600), task=TWO).intervals["accuracy"]
    assert by_person[1] - by_person[0] > 2 * (by_image[1] - by_image[0])


def test_an_interval_over_seeds_is_students_and_one_seed_takes_the_persons():
    found = over_seeds([0.9, 0.92, 0.94])
    assert found.mean == pytest.approx(0.92)
    assert found.ci_high - found.mean == pytest.approx(4.3027 * 0.02 / np.sqrt(3), rel=1e-3)
    assert over_seeds([0.9], one_seed=(0.8, 0.95)).ci_over == "test persons"
    assert over_seeds([None]).reason


def test_real_copies_teach_as_well_as_real_images_and_shuffled_labels_teach_nothing():
    rng = np.random.default_rng(2)
    train, test = bars(300, rng), bars(200, rng)
    real = score(train, test, task=TWO, effort=QUICK).value("hog_linear", "accuracy")
    copies = Labelled.of(train.images[::-1].copy(), train.labels[::-1].copy())
    perfect = score(copies, test, task=TWO, effort=QUICK).value("hog_linear", "accuracy")
    shuffled = Labelled.of(train.images, rng.permutation(train.labels))
    chance = score(shuffled, test, task=TWO, effort=QUICK).value("hog_linear", "accuracy")
    assert perfect / real == pytest.approx(1, abs=0.05)
    assert real > 0.9
    assert chance < 0.75


def test_every_light_classifier_learns_and_a_seed_repeats_it():
    rng = np.random.default_rng(3)
    train, test = bars(200, rng), bars(100, rng)
    effort = Effort(most_steps=25)
    one, again = (score(train, test, task=TWO, effort=effort, seed=5) for _ in range(2))
    assert set(one.measured) == {"cnn", "mlp", "hog_linear"}
    assert one.as_json(TWO) == again.as_json(TWO)
    assert one.value("mean", "auc") > 0.6


@pytest.mark.parametrize("wrong", ["size", "depth", "label"])
def test_sets_that_do_not_match_are_refused(wrong):
    rng = np.random.default_rng(4)
    train, test = bars(20, rng), bars(20, rng)
    other = {
        "size": lambda: Labelled.of(test.images[:, 1:], test.labels),
        "depth": lambda: Labelled.of(test.images.astype(np.uint16), test.labels),
        "label": lambda: Labelled.of(test.images, test.labels + 2),
    }[wrong]()
    with pytest.raises(InvalidParameter, match="refused"):
        score(train, other, task=TWO, effort=QUICK)


def test_fidelity_knows_copies_from_noise():
    rng = np.random.default_rng(5)
    real, other = bars(150, rng), bars(150, rng)
    noise = Labelled.of(rng.integers(0, 255, (150, 16, 16)).astype(np.uint8), real.labels)
    good, bad = (fidelity.compare(one, real, reference=other) for one in (other, noise))
    assert good["fid"] < 0.2 * bad["fid"]
    assert good["coverage"] > 0.6 > bad["coverage"]
    assert good["fid"] == pytest.approx(good["fid_of_real"])
    assert good["diversity"] == pytest.approx(1, abs=0.2)


def test_one_repeated_image_has_no_diversity():
    rng = np.random.default_rng(6)
    real = bars(100, rng)
    repeated = Labelled.of(np.repeat(real.images[:1], 100, axis=0), real.labels)
    found = fidelity.compare(repeated, real)
    assert found["diversity"] == pytest.approx(0, abs=1e-6)
    assert found["recall"] < 0.1


def test_masks_hide_the_middle_or_all_but_the_middle():
    images = np.full((1, 8, 8), 200, np.uint8)
    masked, alone = (shortcuts.seen(images, sight)[0] == 200 for sight in shortcuts.SIGHTS)
    assert not masked[2:6, 2:6].any()
    assert np.array_equal(masked, ~alone)
    assert alone.sum() == 16


def test_the_shortcut_check_finds_a_label_at_the_edge():
    rng = np.random.default_rng(7)
    train, test = bars(200, rng), bars(100, rng)
    for part in (train, test):
        part.images[:, 4:12, 4:12] = 30
        part.images[:, :2, :] = np.where(part.labels == 1, 250, 5)[:, None, None]
    found = shortcuts.check(train, test, task=TWO, most_steps=30)
    assert found["centre_masked"].values["accuracy"] > 0.9
    assert found["centre_only"].values["accuracy"] < 0.75


def test_a_curve_has_each_size_with_and_without_and_a_full_replacement():
    rng = np.random.default_rng(8)
    real, made, test = bars(60, rng), bars(60, rng), bars(30, rng)
    rows = augmentation.curve(
        real, made, test, task=TWO, sizes=(10,), seeds=2, recipe=Recipe().at_most(2)
    )
    seen = {(row["real_persons"], row["synthetic_images"]) for row in rows}
    assert seen == {(10, 0), (10, 60), (30, 0), (30, 60), (0, 60)}
    assert {row["metric"] for row in rows} == {"accuracy", "balanced_accuracy", "qwk", "auc"}
    assert all(row["mean"] is not None or row["reason"] for row in rows)
    assert {row["steps"] for row in rows} == {2}
    assert {row["ci_over"] for row in rows if row["mean"] is not None} == {augmentation.VARIED}


def test_published_networks_have_their_published_size():
    millions = {
        name: sum(p.numel() for p in DeepNetwork(one, 10).parameters()) / 1e6
        for name, one in ARCHITECTURES.items()
    }
    assert millions["resnet"] == pytest.approx(1.7, abs=0.05)
    assert millions["wrn"] == pytest.approx(36.5, abs=0.2)
    assert millions["resnext"] == pytest.approx(34.4, abs=0.2)


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_the_published_protocol_runs_on_tiny_networks(name, monkeypatch):
    tiny = {
        "resnet": Architecture(blocks=1, channels=4),
        "wrn": Architecture(blocks=1, channels=4, is_preactivated=True),
        "resnext": Architecture(blocks=1, channels=16, groups=2, is_bottleneck=True),
    }
    monkeypatch.setitem(ARCHITECTURES, name, tiny[name])
    rng = np.random.default_rng(9)
    train, test = bars(90, rng), bars(40, rng)
    effort = Effort(classifiers=(name,), epochs=2)
    found = score(train, test, task=TWO, protocol="dpimagebench", effort=effort)
    assert found.headline == "mean"
    assert 0 <= found.value("mean", "accuracy") <= 1
    assert not any(torch.isnan(p).any() for p in found.networks[name].parameters())
