"""Run somebody's classifier in a process of its own, which holds no key and may take only so much.

`python -m workers.editing.apart FOLDER`: reads `model.onnx`, `images.npy` and `order.json` there, writes
`probabilities.npy`. What the model makes of its memory or its time ends that process, not the job; the
process is started without the service's environment, so it knows neither database nor object store.
Standard output: the sentence of a refusal.
"""

import json
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter
from workers.editing.classifier import Floats, load_classifier

MOST_SECONDS = 600
MOST_BYTES = 6 << 30
"""Address space of the process: the model, its copies inside the runtime, and 1,500 images."""

_REFUSED = 2
_MOST_FILE_BYTES = 1 << 30


@dataclass(frozen=True)
class ModelApart:
    """A model in a folder, next to which images and answers are put."""

    folder: Path
    kinds: int
    white: float
    most_seconds: int = MOST_SECONDS

    def probabilities(self, images: NDArray[np.uint8]) -> Floats:
        """Return (N, labels) probabilities.

        Raises: InvalidParameter with the model's refusal, or where it took too much.
        """
        np.save(self.folder / "images.npy", images, allow_pickle=False)
        order = {"kinds": self.kinds, "white": self.white, "seconds": self.most_seconds}
        (self.folder / "order.json").write_text(json.dumps(order), encoding="ascii")
        command = [sys.executable, "-m", "workers.editing.apart", str(self.folder)]
        try:
            done = subprocess.run(  # noqa: S603 - our own interpreter, our own module
                command,
                env={
                    "OMP_NUM_THREADS": "1",
                    "OPENBLAS_NUM_THREADS": "1",
                    "PYTHONPATH": ":".join(filter(None, sys.path)),
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # the runtime's words may quote the model
                timeout=2 * self.most_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise self._too_much() from None
        if done.returncode == _REFUSED:
            raise InvalidParameter(done.stdout.decode("utf-8", "replace").strip()[:1000])
        if done.returncode != 0:
            raise self._too_much()
        answers: Floats = np.load(self.folder / "probabilities.npy", allow_pickle=False)
        if answers.shape != (len(images), self.kinds):
            raise InvalidParameter("The model was refused: its answers do not fit the images.")
        return answers

    def _too_much(self) -> InvalidParameter:
        return InvalidParameter(
            f"The model was refused: it took more than {self.most_seconds} seconds or "
            f"{MOST_BYTES >> 30} GiB, or ended by itself. Test it on your own machine: "
            "kaima edit stress."
        )


def main(folder: Path) -> int:
    """Answer for the images in `folder`; return the exit code."""
    order = json.loads((folder / "order.json").read_text(encoding="ascii"))
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, MOST_BYTES),
        (resource.RLIMIT_CPU, int(order["seconds"])),
        (resource.RLIMIT_FSIZE, _MOST_FILE_BYTES),
    ):
        resource.setrlimit(kind, (most, most))
    images = np.load(folder / "images.npy", allow_pickle=False)
    try:
        classifier = load_classifier(
            folder / "model.onnx", kinds=order["kinds"], white=order["white"]
        )
        answers = classifier.probabilities(images)
    except InvalidParameter as refused:
        sys.stdout.write(str(refused))
        return _REFUSED
    np.save(folder / "probabilities.npy", answers, allow_pickle=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
