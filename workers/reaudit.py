"""REAUDIT: audit a published release again, when an attack or the policy has changed.

The same code as the first audit, on the same records, generator, samples, arms and keys. Only the
policy may be another than the one committed to before the training; the report names both. What the
verdict does to the release is decided where the job ends (`service.operations.reaudits`).
"""

from workers import audit
from workers.context import JobContext


def run(context: JobContext) -> dict[str, object]:
    """Audit the release's candidate as an AUDIT job does; return its summary."""
    return audit.run(context)
