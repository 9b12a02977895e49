"""The calls about the journal: its rows, its signed head, and proofs; `KaimaClient` has them."""

from collections.abc import Iterator
from typing import Any

from service import journal_resources as j
from service import resources as r
from service.connection import Connection


class JournalCalls:
    """What anybody, or an operator, asks of the journal."""

    _connection: Connection

    def journal(self) -> Iterator[r.TrailEvent]:
        """Yield every event of the journal, oldest first (operator)."""
        return self._connection.pages(r.TrailPage, "/v1/journal")

    def journal_head(self) -> j.JournalHead:
        """Return the signed head; keep it to demand a proof later."""
        return self._connection.get(j.JournalHead, "/v1/journal/head")

    def prove_row(self, seq: int) -> j.InclusionProof:
        """Return the proof that a row is under the present head."""
        return self._connection.get(j.InclusionProof, f"/v1/journal/proofs/{seq}")

    def prove_growth(self, kept: j.JournalHead) -> dict[str, Any]:
        """Return the document that `kaima journal check-proof` takes, about the head you kept."""
        path = f"/v1/journal/consistency?old_size={kept.size}"
        proof = self._connection.get(j.ConsistencyProof, path)
        return {**proof.model_dump(), "old": kept.model_dump()}
