"""Why a verdict is what it is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """`code` is a stable slug, `text` one sentence with the numbers in it."""

    code: str
    text: str

    def to_json(self) -> dict[str, str]:
        """JSON values."""
        return {"code": self.code, "text": self.text}
