"""Somebody's classifier as an ONNX file: what it takes, and what it answers for images.

The file is run, so it is treated as a stranger's: on the processor, one thread, no custom operators, no
data outside the file, and a limit on its size. Whoever runs it in a service does so in a job's own process.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from privacy.errors import InvalidParameter

Floats = NDArray[np.float64]

MOST_MEGABYTES = 512
_IMAGES_AT_ONCE = 64
_CHANNELS = (1, 3)
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"


@dataclass(frozen=True, eq=False)
class Classifier:
    """A loaded model. Images go in as (N, channels, H, W) floats from 0 to `white`."""

    session: Any
    input_name: str
    channels: int | None  # None: the model takes (N, H, W)
    size: tuple[int, int] | None  # (H, W), None for any
    white: float
    kinds: int

    def probabilities(self, images: NDArray[np.uint8]) -> Floats:
        """Return (N, labels) probabilities; numbers that are none yet go through a softmax.

        Raises: InvalidParameter where the answer does not fit the labels.
        """
        parts = [
            self._run(images[start : start + _IMAGES_AT_ONCE])
            for start in range(0, len(images), _IMAGES_AT_ONCE)
        ]
        return _as_probabilities(np.concatenate(parts), self.kinds)

    def _run(self, images: NDArray[np.uint8]) -> Floats:
        values = images.astype(np.float32) / 255.0
        if self.size and values.shape[1:] != self.size:
            factors = [
                wanted / had for wanted, had in zip(self.size, values.shape[1:], strict=True)
            ]
            values = ndimage.zoom(values, (1.0, *factors), order=1, grid_mode=True, mode="nearest")
        values = values * np.float32(self.white)
        if self.channels is not None:
            values = np.repeat(values[:, None], self.channels, axis=1)
        try:
            answers = self.session.run(None, {self.input_name: values})
        except Exception as error:  # noqa: BLE001 - onnxruntime has a dozen kinds of its own
            raise InvalidParameter(
                f"The model was refused: it failed on images of shape {values.shape} "
                f"({str(error).splitlines()[0][:200]})."
            ) from None
        return np.asarray(answers[0], dtype=np.float64).reshape(len(images), -1)


def load_classifier(path: Path, *, kinds: int, white: float = 1.0) -> Classifier:
    """Load a model that tells `kinds` labels apart.

    Raises: InvalidParameter for a file that is too large, no ONNX, or takes something else than images.
    """
    import onnxruntime  # noqa: PLC0415 - needed here alone

    megabytes = path.stat().st_size / 2**20
    if megabytes > MOST_MEGABYTES:
        raise InvalidParameter(
            f"{path.name} was refused: {megabytes:,.0f} MB; the limit is {MOST_MEGABYTES}."
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        # A model may name other files to read its weights from: in an empty folder there are none.
        with tempfile.TemporaryDirectory() as empty:
            options.add_session_config_entry(_WEIGHTS_FOLDER, empty)
            session = onnxruntime.InferenceSession(
                path.read_bytes(), options, providers=["CPUExecutionProvider"]
            )
    except Exception as error:  # noqa: BLE001
        raise InvalidParameter(
            f"{path.name} was refused: it is no ONNX model that can be run here "
            f"({str(error).splitlines()[0][:200]}). Export it with its weights inside the file and "
            "standard operators."
        ) from None
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) not in (3, 4):
        told = "; ".join(f"{i.name}: {i.type} {i.shape}" for i in inputs)
        raise InvalidParameter(
            f"{path.name} was refused: its inputs are {told}. One float tensor of images (N, "
            "channels, H, W) or (N, H, W) was expected."
        )
    shape = inputs[0].shape
    channels = _channels(shape, path.name)
    size = tuple(s for s in shape[-2:] if isinstance(s, int))
    return Classifier(
        session=session,
        input_name=inputs[0].name,
        channels=channels,
        size=(size[0], size[1]) if len(size) == 2 else None,
        white=white,
        kinds=kinds,
    )


def _channels(shape: list[Any], name: str) -> int | None:
    if len(shape) == 3:
        return None
    if isinstance(shape[1], int) and shape[1] not in _CHANNELS:
        raise InvalidParameter(
            f"{name} was refused: its input has {shape[1]} channels; 1 or 3 were expected."
        )
    return shape[1] if isinstance(shape[1], int) else 1


def _as_probabilities(answers: Floats, kinds: int) -> Floats:
    if not np.isfinite(answers).all():
        raise InvalidParameter(
            "The model was refused: it answered with numbers that are not finite."
        )
    if answers.shape[1] == 1 and kinds == 2:  # one number: how likely the second label is
        one = answers if 0 <= answers.min() <= answers.max() <= 1 else 1 / (1 + np.exp(-answers))
        answers = np.hstack([1 - one, one])
    if answers.shape[1] != kinds:
        raise InvalidParameter(
            f"The model was refused: it answers with {answers.shape[1]} numbers for each image; the "
            f"set has {kinds} labels. Give a model for these labels, in their order."
        )
    sums = answers.sum(axis=1)
    if answers.min() >= 0 and np.allclose(sums, 1.0, atol=1e-3):
        return answers
    shifted = np.exp(answers - answers.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
