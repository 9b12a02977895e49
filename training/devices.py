"""Which device computes: the first GPU if there is one, else the processor.

The one place that chooses. Everything else puts tensors where a network's parameters are.
"""

import os

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
