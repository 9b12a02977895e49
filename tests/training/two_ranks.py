"""One rank of a training by two: `python -m tests.training.two_ranks RANK COUNT FOLDER`.

Writes what the rank saw to FOLDER/RANK.npz: the clipped sum of everybody before noise, the noise of
many empty steps, and the weights after a whole training, with what was charged for it; and what was
said to a one-shot release, a whole `fit`, and a training in turns.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.distributed
from torch import nn

from privacy.errors import InvalidParameter
from privacy.mechanisms import GaussianMechanism, PoissonSubsampledGaussianMechanism
from tests.training import test_every_generator as fits
from training import dp_sgd, generators
from training.checkpoints import Progress
from training.ranks import Ranks
from training.records import PersonIndex
from training.run import LocalRun

IMAGES = [1, 2, 3, 1, 5, 2, 1]
NOISE = 2.0
EMPTY_STEPS = 400
STEPS = 6


class Distance:
    """Squared distance of what the network says from the record's number."""

    def examples(self, records):
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(sum(IMAGES), 4, generator=generator)
        return inputs[records], torch.from_numpy(records.astype(np.float32))

    def loss(self, network, examples):
        inputs, targets = examples
        return torch.square(network(inputs)[:, 0] - targets)


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.SiLU(), nn.Linear(6, 1))


def people():
    return PersonIndex.of(np.repeat(np.arange(len(IMAGES)), IMAGES))


def settings():
    return dp_sgd.DpSgdSettings(expected_batch_size=4, images_per_person=9, physical_batch=4)


def mechanism():
    return PoissonSubsampledGaussianMechanism(
        stage="dp_sgd", noise_multiplier=NOISE, sampling_rate=0.5, steps=STEPS
    )


def trainer(ranks):
    return dp_sgd.Trainer(
        network(1),
        Distance(),
        people=people(),
        mechanism=mechanism(),
        settings=settings(),
        ranks=ranks,
    )


def main(folder):
    ranks = Ranks.here()
    one = trainer(ranks)
    one.accumulate(ranks.own(len(IMAGES)))
    everybody = ranks.sum(one.optimizer.clipped_sum.clone())
    one.optimizer.clipped_sum.zero_()
    noise = []
    for _ in range(EMPTY_STEPS):
        one.accumulate(np.zeros(0, dtype=np.int64))
        one.optimizer.pre_step()
        noise.append(np.concatenate([p.grad.flatten().numpy() for p in one.optimizer.params]))
    run, trained = LocalRun([mechanism()]), network(2 + ranks.index)
    ran = dp_sgd.train(
        trained,
        Distance(),
        people=people(),
        index=0,
        settings=settings(),
        run=run,
        kept=Progress(run),
    )
    weights = torch.cat([p.detach().flatten() for p in trained.parameters()])
    np.savez(
        Path(folder) / f"{ranks.index}.npz",
        everybody=everybody.numpy(),
        noise=np.array(noise),
        weights=weights.numpy(),
        charged=run.charges[0],
        ran=ran.steps,
        **refusals(),
    )


def refusals():
    """Return what each thing that only one rank may do was answered, and what it computed or spent."""
    computed, run = [], LocalRun([GaussianMechanism(stage="release", noise_multiplier=1.0)])

    def compute():
        computed.append(1)
        return {"value": np.zeros(1)}

    said = {"release": refusal(lambda: Progress(run).release_once(0, compute))}
    turns, steps = LocalRun([mechanism()]), []
    said["turns"] = refusal(
        lambda: dp_sgd.train(
            network(1),
            Distance(),
            people=people(),
            index=0,
            settings=settings(),
            run=turns,
            kept=Progress(turns),
            after_step=steps.append,
        )
    )
    runs = [run, turns]
    for name in generators.available("image"):
        module = generators.load(name)
        config = fits._config(module)
        runs.append(LocalRun(fits._mechanisms(module, config)))
        said[f"fit {name}"] = refusal(partial(fits._fit, name, run=runs[-1]))
    return {**said, "spent": len(computed + steps) + sum(sum(one.charges) for one in runs)}


def refusal(act):
    try:
        act()
    except InvalidParameter as error:
        return str(error)
    return ""


if __name__ == "__main__":
    rank, count, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count
    )
    main(folder)
    torch.distributed.destroy_process_group()
