"""The client's calls about edits of released sets; `KaimaClient` inherits them."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from service import editing_resources as r
from service.connection import Connection

_OVER = {"succeeded", "failed", "cancelled"}


class EditCalls:
    """Ask for edits and fetch them."""

    _connection: Connection

    def request_edit(self, release_id: str, **asked: Any) -> r.Edit:
        """Queue an edit; keywords as in `NewEdit`."""
        body = r.NewEdit.model_validate(asked)
        return self._connection.post(r.Edit, f"/v1/releases/{release_id}/edits", body)

    def edits(self, release_id: str) -> Iterator[r.Edit]:
        """Yield one's own edits of a release, newest first."""
        return self._connection.pages(r.EditPage, f"/v1/releases/{release_id}/edits")

    def edit(self, edit_id: str) -> r.Edit:
        """Return an edit."""
        return self._connection.get(r.Edit, f"/v1/edits/{edit_id}")

    def wait_for_edit(
        self, edit_id: str, *, poll_seconds: float = 1.0, timeout_seconds: float | None = None
    ) -> r.Edit:
        """Wait until an edit has ended, however it did.  Raises: TimeoutError."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while (edit := self.edit(edit_id)).state not in _OVER:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"Edit {edit_id} is still {edit.state}.")
            time.sleep(poll_seconds)
        return edit

    def edit_sheet(self, edit_id: str) -> bytes:
        """Return the series as PNG."""
        return self._connection.send("GET", f"/v1/edits/{edit_id}/sheet").content

    def teaching_set(self, edit_id: str) -> bytes:
        """Return the teaching set as a zip."""
        return self._connection.send("GET", f"/v1/edits/{edit_id}/teaching-set").content

    def upload_model(self, release_id: str, path: Path) -> str:
        """Upload a classifier (ONNX) for one stress test of a release; return its identifier."""
        with path.open("rb") as blocks:
            found = self._connection.put_blocks(
                r.UploadedModel,
                f"/v1/releases/{release_id}/models/content",
                blocks,
                size_bytes=path.stat().st_size,
            )
        return found.id

    def stress_test(self, edit_id: str) -> dict[str, Any]:
        """Return what a stress test found."""
        found: dict[str, Any] = self._connection.send(
            "GET", f"/v1/edits/{edit_id}/stress-test"
        ).json()
        return found

    def stress_report(self, edit_id: str) -> str:
        """Return the page of a stress test."""
        return self._connection.send("GET", f"/v1/edits/{edit_id}/stress-report").text
