"""What the base thinks of rows, kept by content: every candidate's suite asks for the same ones.

Whole groups are kept, not single rows: a number depends in its last bits on the rows beside it, so
a result must come from the same batches whether or not something was asked before.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from adapters.parity.reference_batches import Group, Row, plan_groups
from adapters.parity.reference_forward import OnDone, Scored, score_group

MAX_ROWS = 20_000
"""Rows that are kept; arbitrary, some 100 MB."""


class BaseRows:
    """Results of one base model. Not thread-safe."""

    def __init__(self) -> None:
        self._groups: OrderedDict[Group, dict[Row, Scored]] = OrderedDict()

    def __len__(self) -> int:
        """Rows that are kept."""
        return sum(len(rows) for rows in self._groups.values())

    def clear(self) -> None:
        """Forget everything: another base follows."""
        self._groups.clear()

    def score(
        self, model: Any, rows: Sequence[Row], *, on_done: OnDone | None = None
    ) -> list[Scored]:
        """As `score_rows`; `model` must be the bare base."""
        results: dict[Row, Scored] = {}
        for group in plan_groups(rows):
            known = self._groups.get(group)
            if known is None:
                known = self._groups[group] = score_group(model, group, on_done=on_done)
            elif on_done is not None:
                on_done(len(known))
            self._groups.move_to_end(group)
            results.update(known)
        while len(self) > MAX_ROWS:
            self._groups.popitem(last=False)
        return [results[row] for row in rows]
