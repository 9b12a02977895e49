"""Every error that the trust kernel raises. The text is the sentence a user reads.

Each message says what was refused, the value, the limit, and what to do.
"""


class PrivacyError(Exception):
    """Parent of every refusal by the trust kernel."""


class InvalidParameter(PrivacyError, ValueError):
    """A parameter lies outside the range for which the guarantee is proven."""


class UnsupportedMechanism(PrivacyError, ValueError):
    """A recorded mechanism is not in the vocabulary, so no epsilon is derived from it."""


class BudgetExceeded(PrivacyError):
    """A reservation would take the cohort past its budget."""


class ReservationExceeded(PrivacyError):
    """A charge would run more steps of a mechanism than were reserved."""


class DigestMismatch(PrivacyError):
    """Bytes differ from the digest or the commitment that names them."""


class EvidenceMissing(PrivacyError):
    """An audit was asked to run without evidence that it needs."""
