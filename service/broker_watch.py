"""What the broker and the workers last said, without making a page wait for them.

Workers get a second to answer, and a broker that is gone may take longer to be given up: both are asked in
a thread, and a page shows what is known when it is asked for, with its age.
"""

import threading
import time
from dataclasses import dataclass, replace

from service.dispatch import Dispatcher

FRESH_SECONDS = 5.0
"""How long an answer stands before the broker is asked again."""

_STALE_SECONDS = 60.0  # an older one is not shown
_PATIENCE_SECONDS = 0.05


@dataclass(frozen=True)
class BrokerState:
    """What is known. `depths` None: not reachable. `workers` None: not known yet."""

    asked_at: float  # time.monotonic()
    depths: dict[str, int] | None = None
    workers: dict[str, list[str]] | None = None

    @property
    def age_seconds(self) -> int:
        """Return how long ago this was."""
        return int(time.monotonic() - self.asked_at)


class BrokerWatch:
    """Asks one question at a time, however many pages want to know."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        """Ask through `dispatcher`; nothing is asked before the first look."""
        self._dispatcher = dispatcher
        self._lock = threading.Lock()
        self._state: BrokerState | None = None
        self._asking: threading.Thread | None = None

    def look(self, *, patience_seconds: float = _PATIENCE_SECONDS) -> BrokerState | None:
        """Return the newest answer, after a twentieth of a second at most; None: nobody has answered."""
        with self._lock:
            is_fresh = self._state is not None and self._state.age_seconds < FRESH_SECONDS
            if is_fresh and self._state is not None and self._state.workers is not None:
                return self._state
            if self._asking is None or not self._asking.is_alive():
                self._asking = threading.Thread(target=self._ask, name="broker-watch", daemon=True)
                self._asking.start()
            asking = self._asking
        asking.join(patience_seconds)
        with self._lock:
            known = self._state
        return known if known is not None and known.age_seconds < _STALE_SECONDS else None

    def _ask(self) -> None:
        depths = self._dispatcher.depths()
        state = BrokerState(time.monotonic(), depths, {} if depths is None else None)
        with self._lock:
            if self._state is None or self._state.workers is None or depths is None:
                self._state = state
        if depths is None:
            return
        workers = self._dispatcher.workers()
        with self._lock:
            self._state = replace(state, workers=workers)
