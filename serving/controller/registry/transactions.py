"""How the registry is read and written: sessions, serial writes, retries, errors translated.

Every write is alone: SQLite by BEGIN IMMEDIATE, PostgreSQL by the lock of the fleet's row. So a
write may read, decide and write without a race, and counters follow commit order. A write is a
function that can run again: a deadlock or a lost connection before the commit runs it once more.
"""

from __future__ import annotations

import asyncio
import copy
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import msgspec
from sqlalchemy import Connection, Select, event, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from serving.controller.errors import Deposed, RegistryUnavailable
from serving.controller.registry.changes import Changes, Mark, RecordingSession, touched_by
from serving.controller.registry.tables import TOKEN_BITS, AuditRow, FleetRow, Json

T = TypeVar("T")

FLEET = "fleet"
"""Key of the only row of `fleets`."""
MAX_KEYS = 1000
"""Keys that one query names; with more, reading all is cheaper."""

_BUSY_TIMEOUT_SECONDS = 30
_ABANDONED_SECONDS = 15
"""No transaction here waits for anything but the database; the longest take some hundred ms."""
_RETRIES = 6
_FIRST_PAUSE_SECONDS = 0.02
# serialization_failure, deadlock_detected, admin_shutdown, cannot_connect_now
_RETRIED_SQLSTATES = frozenset({"40001", "40P01", "57P01", "57P03"})


@dataclass
class Unit:
    """One write transaction: its session, its time, and what it shall tell others."""

    session: AsyncSession
    fleet: FleetRow
    now: float
    changed: bool = field(default=False)
    audited: bool = field(default=False)

    def bump(self) -> None:
        """Give the snapshot's content, changed in this transaction, a new revision."""
        if not self.changed:
            self.fleet.revision += 1
            self.fleet.revision_token = secrets.randbits(TOKEN_BITS)
            self.changed = True

    @property
    def mark(self) -> Mark:
        """Of the snapshot's content, as far as this transaction knows."""
        return Mark(self.fleet.revision, self.fleet.revision_token)

    def audit(
        self,
        action: str,
        subject: str,
        *,
        actor: str,
        tenant_id: str | None = None,
        moved: tuple[str | None, str | None] = (None, None),
        reason: str | None = None,
        evidence: Json | None = None,
    ) -> None:
        """Write down one move: who, when, from, to, why, evidence."""
        self.fleet.audit_sequence += 1
        self.audited = True
        self.session.add(
            AuditRow(
                id=self.fleet.audit_sequence,
                at=self.now,
                actor=actor,
                tenant_id=tenant_id,
                subject=subject,
                action=action,
                from_state=moved[0],
                to_state=moved[1],
                reason=reason,
                evidence=evidence,
            )
        )

    async def one(self, query: Select[T]) -> T | None:
        """The only row of `query`, or None."""
        return (await self.session.execute(query)).scalar_one_or_none()

    async def all(self, query: Select[T]) -> list[T]:
        """All rows of `query`."""
        return list((await self.session.execute(query)).scalars())


class Sessions:
    """The registry's database behind one URL."""

    def __init__(self, url: str, *, clock: Callable[[], float]) -> None:
        self.url = url
        self.clock = clock
        self.engine = _open_engine(url)
        self._read = async_sessionmaker(_reading(self.engine), expire_on_commit=False)
        self.writing_engine = _writing(self.engine)
        self._write = async_sessionmaker(
            self.writing_engine, expire_on_commit=False, sync_session_class=RecordingSession
        )
        self.changes = Changes()
        """What the writes of this process have changed."""
        self._listeners: list[Callable[[int], None]] = []
        self._term: int | None = None

    def listen(self, listener: Callable[[int], None]) -> None:
        """Call `listener(revision)` after each commit that somebody may wait for."""
        self._listeners.append(listener)

    def under(self, term: int) -> Self:
        """The same database for the leader of a term, whose writes end when a later one begins."""
        fenced = copy.copy(self)
        fenced._term = term  # noqa: SLF001 - a copy of our own
        return fenced

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session on one consistent view of the database; nothing is written.

        Raises:
            RegistryUnavailable: the database did not answer.
        """
        try:
            async with self._read() as session:
                yield session
        except (SQLAlchemyError, OSError) as exc:
            raise RegistryUnavailable(reason=_reason(exc)) from exc

    async def write(self, work: Callable[[Unit], Awaitable[T]]) -> T:
        """Run `work` in a transaction that no other write overlaps, and commit.

        `work` runs again when the database asks for it, so it must not touch the world outside.

        Raises:
            RegistryUnavailable: the database did not answer or stayed busy; nothing was written.
            Deposed: these sessions are of a term that is over; nothing was written.
        """
        return await self.retried(lambda: self._attempt(work))

    async def retried(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Run `attempt`, and again when the database asks for it.

        A new SQLite file that several processes open at once is busy without waiting.

        Raises:
            RegistryUnavailable: the database did not answer or stayed busy.
        """
        for pause in [_FIRST_PAUSE_SECONDS * 2**n for n in range(_RETRIES)]:
            try:
                return await attempt()
            except (SQLAlchemyError, OSError) as exc:
                _end_if_cancelled(exc)
                if not _may_retry(exc):
                    raise RegistryUnavailable(reason=_reason(exc)) from exc
            await asyncio.sleep(pause)
        try:
            return await attempt()
        except (SQLAlchemyError, OSError) as exc:
            raise RegistryUnavailable(reason=_reason(exc)) from exc

    async def _attempt(self, work: Callable[[Unit], Awaitable[T]]) -> T:
        async with self._write() as session, session.begin():
            await self._end_if_abandoned(session)
            fleet = (
                await session.execute(
                    select(FleetRow).where(FleetRow.name == FLEET).with_for_update()
                )
            ).scalar_one()
            self._fence(fleet)
            unit = Unit(session=session, fleet=fleet, now=self.clock())
            before = unit.mark
            result = await work(unit)
            await session.flush()
        if unit.changed:
            self.changes.note(before, unit.mark, touched_by(session))
        if unit.changed or unit.audited:
            for listener in self._listeners:
                listener(unit.fleet.revision)
        return result

    async def _end_if_abandoned(self, session: AsyncSession) -> None:
        # One that is frozen, or cut off, inside a write would keep the fleet's row, and so every
        # other controller from writing, until it is back: its transaction is ended instead. LOCAL,
        # and in each: behind a pooler by transactions the next may be on another connection.
        if self.engine.dialect.name != "sqlite":
            limit = f"SET LOCAL idle_in_transaction_session_timeout = {_ABANDONED_SECONDS * 1000}"
            # Past the session, which takes a text for a write of any rows.
            await (await session.connection()).execute(text(limit))

    def _fence(self, fleet: FleetRow) -> None:
        if self._term is None:
            return
        if self._term < fleet.leader_term:
            raise Deposed(term=self._term, present=fleet.leader_term)
        # Lower only after an older backup was restored under a running leader.
        fleet.leader_term = self._term


def _open_engine(url: str) -> AsyncEngine:
    codec: dict[str, Any] = {"json_serializer": _to_json, "json_deserializer": _from_json}
    if make_url(url).get_backend_name() != "sqlite":
        return create_async_engine(url, pool_pre_ping=True, pool_size=10, **codec)
    engine = create_async_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_SECONDS}, **codec)
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _to_json(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        # Half of a surrogate pair, as a model may answer: an escape can say it, UTF-8 cannot.
        return json.dumps(msgspec.to_builtins(value))


def _from_json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        # What Python's own writer alone makes: NaN of an undefined number, half a surrogate pair.
        return json.loads(text)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver must not begin transactions of its own: `_begin_sqlite` does.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={_BUSY_TIMEOUT_SECONDS * 1000}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A write that begins as a reader cannot wait for its turn: SQLite fails it at once.
    is_write = connection.get_execution_options().get("registry_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")


def _reading(engine: AsyncEngine) -> AsyncEngine:
    if engine.dialect.name == "sqlite":
        return engine
    return engine.execution_options(isolation_level="REPEATABLE READ")


def _writing(engine: AsyncEngine) -> AsyncEngine:
    if engine.dialect.name == "sqlite":
        return engine.execution_options(registry_write=True)
    # Each statement after the fleet row's lock sees everything committed before it.
    return engine.execution_options(isolation_level="READ COMMITTED")


def _end_if_cancelled(exc: BaseException) -> None:
    # A rollback that fails, because the connection has gone, takes the place of the cancellation
    # that it is part of: to try again then would be to go on for ever.
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError from exc


def _may_retry(exc: BaseException) -> bool:
    if isinstance(exc, PoolTimeout):
        return True
    if not isinstance(exc, DBAPIError):
        return isinstance(exc, OSError)
    code = getattr(exc.orig, "sqlstate", None) or getattr(exc.orig, "pgcode", None)
    busy = getattr(exc.orig, "sqlite_errorname", "") or ""
    return (
        exc.connection_invalidated or code in _RETRIED_SQLSTATES or busy.startswith("SQLITE_BUSY")
    )


def _reason(exc: BaseException) -> str:
    original = getattr(exc, "orig", None) or exc
    return f"{type(original).__name__}: {original}"[:300]
