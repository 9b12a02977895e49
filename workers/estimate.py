"""ESTIMATE: a dry run on random records says how long a training would take, and how much memory.

Nothing is charged and no record is fetched: the job is told what was declared, not where the data is.
"""

from privacy.manifests import read_declared
from privacy.mechanisms import mechanisms_from_json
from training import dry_run, generators
from workers.context import JobContext


def run(context: JobContext) -> dict[str, object]:
    """Try the generator as it would train here; the result is the estimate."""
    payload = context.job.payload

    def show(stage: str, step: int, total: int) -> None:
        context.report(f"trying {stage}", step, total)

    context.report("starting")
    found = dry_run.estimate(
        generators.load(payload["generator"]),
        payload["config"],
        schema=read_declared(payload["declared"]),
        mechanisms=mechanisms_from_json(payload["mechanisms"]),
        units=int(payload["units"]),
        samples=int(payload["samples"]),
        report=show,
    )
    return found.document()
