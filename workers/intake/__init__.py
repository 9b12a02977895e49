"""Read an upload: validate it, drop every identifier, write the blobs of a dataset version."""

from workers.intake.duplicates import DuplicateReport
from workers.intake.limits import Limits
from workers.intake.result import IntakeResult
from workers.intake.upload import Progress, read_upload

__all__ = ["DuplicateReport", "IntakeResult", "Limits", "Progress", "read_upload"]
