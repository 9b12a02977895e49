"""Which device computes: the first GPU if there is one, else the processor; and how exactly.

The one place that chooses. Everything else puts tensors where a network's parameters are.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch

from privacy.errors import InvalidParameter

VARIABLE = "KAIMA_DEVICE"


def compute_device() -> torch.device:
    """Return the device that networks belong on; the variable KAIMA_DEVICE overrides the choice.

    Raises: InvalidParameter if the variable names a device that is not here.
    """
    has_gpu = torch.cuda.is_available()
    wanted = os.environ.get(VARIABLE) or ("cuda" if has_gpu else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise InvalidParameter(
            f"{VARIABLE}={wanted!r} was refused: it names no device. Use cpu, cuda or cuda:1."
        ) from error
    if device.type != "cpu" and not (device.type == "cuda" and has_gpu):
        raise InvalidParameter(
            f"{VARIABLE}={wanted!r} was refused: this machine has no such device. Use cpu."
        )
    return device


@contextlib.contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Keep a GPU from shortening float32 factors to TF32's ten bits; does nothing on a processor.

    Norms bound a clipped sum only where it is rounded as finely as they are. Network passes may run
    in TF32: whatever gradient comes out of them is clipped.
    """
    if device.type != "cuda":
        yield
        return
    backends: Any = torch.backends
    before = tuple(
        kind.fp32_precision
        for kind in (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)
    )
    _set_precision("ieee", "ieee", "ieee")
    try:
        yield
    finally:
        _set_precision(*before)


def _set_precision(products: str, convolutions: str, recurrent: str) -> None:
    # Torch has an old and a new name for each setting and refuses to run where they disagree: the
    # old name sets both, the new one then tells what is inherited from what was said.
    backends: Any = torch.backends
    backends.cuda.matmul.allow_tf32 = products == "tf32"
    backends.cuda.matmul.fp32_precision = products
    backends.cudnn.allow_tf32 = convolutions == recurrent == "tf32"
    backends.cudnn.conv.fp32_precision = convolutions
    backends.cudnn.rnn.fp32_precision = recurrent
