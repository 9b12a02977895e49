"""Bring an instance up to date once, before its processes start: `python -m service.prepare`.

Applies the database migrations, makes the keys and the buckets that are missing. Running it again
changes nothing. The supervisor runs it at every start; a deployment runs it as a one-shot job.
"""

from service.config import Settings
from service.wiring import build, migrate


def main() -> None:
    """Prepare the instance that the environment describes."""
    settings = Settings.from_environment()
    migrate(settings)
    application = build(settings)
    application.signing_key()
    application.close()


if __name__ == "__main__":
    main()
