"""Frozen JSON documents with one canonical byte form, over which digests and signatures are taken."""

import hashlib

import rfc8785
from pydantic import BaseModel, ConfigDict

from privacy.errors import InvalidParameter

# By default NaN would be written as null, and two different documents would share a digest.
_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="constants")


class Document(BaseModel):
    """A frozen JSON document with one canonical byte form (RFC 8785)."""

    model_config = _FROZEN

    def canonical(self) -> bytes:
        """Return the RFC 8785 bytes that digests and signatures are taken over.

        Raises: InvalidParameter for a number that JSON cannot carry exactly.
        """
        try:
            return rfc8785.dumps(self.model_dump(mode="json"))
        except rfc8785.CanonicalizationError as error:
            raise InvalidParameter(
                f"The {type(self).__name__} was refused: {error}. Whole numbers must lie within "
                "2**53 of zero, and no number may be NaN or infinite."
            ) from error

    def digest(self) -> str:
        """Return the SHA-256 of the canonical bytes, as lower-case hex."""
        return hashlib.sha256(self.canonical()).hexdigest()
