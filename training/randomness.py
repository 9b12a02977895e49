"""The random streams of a fit: a reproducible one, and one for privacy that nobody can replay.

*Reproducible* (initial weights, synthetic samples): seeded, recorded. *Privacy* (noise and Poisson
batches): OS entropy expanded by AES-256 in counter mode; it takes no seed, keeps no record, and has
no state that a checkpoint could hold.

The noise is a float64 sum of four Gaussians, halved, one from each of four independent Box-Muller
pairs. That closes the known attack on the low bits of a single floating-point Gaussian (Mironov
2012; Holohan and Braghin 2021, arXiv 2107.10138). Two sums share the same four pairs, one taking the
cosines and one the sines, which are independent. It is not an exact discrete Gaussian: timing and
the last bits of later float32 arithmetic are outside what is claimed here.
"""

from __future__ import annotations

import hashlib
import math
import os
import sys
from typing import TYPE_CHECKING

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

if TYPE_CHECKING:  # a fit of a table needs no torch, which takes 200 MB
    import torch
    from torch import Tensor

_KEY_BYTES = 32
_NONCE_BYTES = 16
_SUMMANDS = 4
_BLOCK = 1 << 14  # of these, what is in between stays in a processor's cache

# Sum and noise are rounded to multiples of a power of two about this much below the noise. What may
# come out is then one lattice for everybody, whatever the records, and both additions are exact.
# Rounding P values moves the difference of two sums by sqrt(P) of it at most: `noised_sum` raises the
# noise for that; a gradient's clip leaves more room than networks have weights.
_GRID_BITS = 34


class PrivacyRandomness:
    """Draws privacy noise and Poisson batches from a cryptographic stream under a fresh key."""

    def __init__(self) -> None:
        key, nonce = os.urandom(_KEY_BYTES), os.urandom(_NONCE_BYTES)
        self._stream: CipherContext = Cipher(algorithms.AES(key), modes.CTR(nonce)).encryptor()

    def __reduce__(self) -> str:
        raise TypeError(
            "Copying a privacy stream was refused: replayed noise cancels. Make a fresh one."
        )

    def uniform(self, count: int) -> NDArray[np.float64]:
        """Draw `count` numbers uniform on the open interval (0, 1), 52 random bits each."""
        words = np.empty(count, dtype=np.uint64)
        self._stream.update_into(bytes(words.nbytes), words.view(np.uint8).data)
        # 52 bits behind the exponent of 1.0 are a number of [1, 2); one less a half of the last bit
        # is taken from it, which is exact. In place: fresh memory would cost more than the numbers.
        words >>= np.uint64(12)
        words |= np.uint64(0x3FF0000000000000)
        numbers = words.view(np.float64)
        numbers -= 1.0 - 2.0**-53
        return numbers

    def normal(self, count: int) -> NDArray[np.float64]:
        """Draw `count` standard normal numbers in float64."""
        result = np.empty(count)
        for start in range(0, count, _BLOCK):
            size = min(_BLOCK, count - start)
            cosines, sines = self._box_muller((size + 1) // 2)
            drawn = np.concatenate([cosines.sum(axis=0), sines.sum(axis=0)])[:size]
            result[start : start + size] = drawn / np.sqrt(_SUMMANDS)
        return result

    def noised(self, total: Tensor, deviation: float) -> Tensor:
        """Return the float64 sums (P,) with noise of this standard deviation, on a fixed lattice."""
        import torch  # noqa: PLC0415

        grid = _lattice(deviation)
        noise = torch.from_numpy(self.normal(total.numel())).to(total.device)
        # In place: fresh memory would cost more than the arithmetic.
        return noise.mul_(deviation / grid).round_().add_((total / grid).round_()).mul_(grid)

    def noised_values(self, total: NDArray[np.float64], deviation: float) -> NDArray[np.float64]:
        """Return what `noised` does, of sums in memory. Shapes: (P,) -> (P,)."""
        grid = _lattice(deviation)
        noise = self.normal(total.size)
        return (np.rint(total / grid) + np.rint(noise * (deviation / grid))) * grid

    def poisson_batch(self, population: int, sampling_rate: float) -> NDArray[np.int64]:
        """Draw which of `population` units enter a batch, each alone with `sampling_rate`."""
        return np.flatnonzero(self.uniform(population) < sampling_rate).astype(np.int64)

    def _box_muller(self, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return both coordinates of (summands, count) independent points."""
        shape = (_SUMMANDS, count)
        first, second = self.uniform(_SUMMANDS * count), self.uniform(_SUMMANDS * count)
        # torch computes cosines several times faster than NumPy, as exactly; where no network is
        # trained it is not loaded, and is not worth loading.
        polar = _by_torch if "torch" in sys.modules else _by_numpy
        cosines, sines = polar(first, second)
        return cosines.reshape(shape), sines.reshape(shape)


def _by_numpy(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return independent normal numbers from uniform ones in (0, 1) (Box and Muller 1958)."""
    radius, angle = np.sqrt(-2.0 * np.log(first)), 2.0 * np.pi * second
    return radius * np.cos(angle), radius * np.sin(angle)


def _by_torch(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what `_by_numpy` does, in the place of its arguments as far as they suffice."""
    import torch  # noqa: PLC0415

    # Logarithms and roots stay with NumPy, which is the faster at them.
    radius = np.log(first, out=first)
    radius *= -2.0
    np.sqrt(radius, out=radius)
    angle = torch.from_numpy(second).mul_(2.0 * np.pi)
    cosines, sines = torch.cos(angle).numpy(), angle.sin_().numpy()
    cosines *= radius
    sines *= radius
    return cosines, sines


def _lattice(deviation: float) -> float:
    """Return the spacing of the values that may come out, from the noise alone."""
    return float(2.0 ** (math.floor(math.log2(deviation)) - _GRID_BITS))


def noised_sum(
    values: NDArray[np.float64],
    noise_multiplier: float,
    *,
    sensitivity: float = 1.0,
    source: PrivacyRandomness,
) -> NDArray[np.float64]:
    """Return sums with Gaussian noise of `noise_multiplier` times their L2 sensitivity.

    The noise is raised by what rounding to the lattice may add to the sensitivity, however many
    values there are. Shapes: any, kept. The lattice does not depend on the records.
    """
    moved = math.sqrt(values.size) * 2.0**-_GRID_BITS * noise_multiplier * sensitivity
    raised = noise_multiplier * (sensitivity + 2 * moved)
    released = source.noised_values(np.asarray(values, dtype=np.float64).ravel(), raised)
    return released.reshape(values.shape)


def reproducible(seed: int) -> np.random.Generator:
    """Return the seeded NumPy stream for things that carry no privacy."""
    return np.random.default_rng(seed)


def normals_of(images: NDArray[np.integer], count: int) -> NDArray[np.float64]:
    """Return `count` standard normal numbers for each image that follow from its pixels alone.

    Whatever is done to private records one by one must not depend on which others there are: numbers of
    one stream, dealt out in order, would. Shapes: (N, H, W) -> (N, count).
    """
    result = np.empty((len(images), count))
    for own, image in zip(result, images, strict=True):
        digest = hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest()
        reproducible(int.from_bytes(digest, "little")).standard_normal(out=own)
    return result


def reproducible_torch(seed: int) -> torch.Generator:
    """Return the seeded torch stream for things that carry no privacy."""
    import torch  # noqa: PLC0415

    return torch.Generator().manual_seed(seed)


def unrecorded_torch() -> torch.Generator:
    """Return a torch stream from OS entropy, for draws inside a DP-SGD loss.

    These draws need no secrecy, only independence of earlier attempts of the same run.
    """
    import torch  # noqa: PLC0415

    return torch.Generator().manual_seed(int.from_bytes(os.urandom(7), "little"))
