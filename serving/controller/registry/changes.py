"""What this process's own writes have changed of what a snapshot is made of. In memory alone.

Whoever gives the snapshot a new revision knows which rows it has written. Each such write is a link
from the fleet's mark before it to the one after it; a chain of links from what a reader has seen to
what is there now names all that is different. Where a link is missing (another controller wrote, a
backup was restored, rows were written past the mapper) nothing is known, and everything is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import ORMExecuteState, Session

from serving.controller.registry.tables import (
    AliasRow,
    KeyRow,
    TenantRow,
    VersionRow,
    WishesRow,
)

Key = tuple[str, ...]
Touched = Mapping[type[Any], frozenset[Key]]
"""By table, the keys of rows that were written or deleted."""

_KEY_OF: Mapping[type[Any], Callable[[Any], Key]] = {
    VersionRow: lambda row: (row.id,),
    AliasRow: lambda row: (row.tenant_id, row.adapter),
    KeyRow: lambda row: (row.id,),
    TenantRow: lambda row: (row.id,),
    WishesRow: lambda row: (row.engine_id,),
}
"""The tables that a look does not read whole in any case."""
_N_KEPT = 256
"""Links; a reader that is further behind reads everything. Arbitrary."""
_WRITTEN, _IS_UNKNOWN = "rows written", "rows written past the mapper"


class Mark(NamedTuple):
    """One content of the snapshot's rows.

    The number alone would not do: a registry that was restored reaches it again with other content.
    The token alone would not either: controllers of the version before bump the number alone.
    """

    revision: int
    token: int


class RecordingSession(Session):
    """Remembers the rows that it writes: see `touched_by`."""


class Changes:
    """The latest links of one process."""

    def __init__(self) -> None:
        self._links: dict[Mark, tuple[Mark, Touched | None]] = {}

    def note(self, before: Mark, after: Mark, touched: Touched | None) -> None:
        """A committed write led from `before` to `after`; None: what it touched is not known."""
        self._links[after] = (before, touched)
        if len(self._links) > _N_KEPT:
            del self._links[next(iter(self._links))]

    def between(self, seen: Mark, now: Mark) -> Touched | None:
        """All that was touched from `seen` to `now`; None: not known."""
        found: dict[type[Any], frozenset[Key]] = {}
        while now != seen:
            before, touched = self._links.get(now, (now, None))
            if touched is None:
                return None
            for table, keys in touched.items():
                found[table] = found.get(table, frozenset()) | keys
            now = before
        return found


def touched_by(session: AsyncSession) -> Touched | None:
    """What a session of `RecordingSession` has flushed; None: it has written past the mapper."""
    if session.info.get(_IS_UNKNOWN, False):
        return None
    written: dict[type[Any], set[Key]] = session.info.get(_WRITTEN, {})
    return {table: frozenset(keys) for table, keys in written.items()}


@event.listens_for(RecordingSession, "after_flush")
def _record(session: Session, _context: object) -> None:
    written = session.info.setdefault(_WRITTEN, {})
    for row in _rows(session):
        key_of = _KEY_OF.get(type(row))
        if key_of is not None:
            written.setdefault(type(row), set()).add(key_of(row))


@event.listens_for(RecordingSession, "do_orm_execute")
def _notice(state: ORMExecuteState) -> None:
    mapper = state.bind_mapper
    if not state.is_select and (mapper is None or mapper.class_ in _KEY_OF):
        state.session.info[_IS_UNKNOWN] = True


def _rows(session: Session) -> Iterator[object]:
    yield from session.new
    yield from session.dirty
    yield from session.deleted
