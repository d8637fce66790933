"""Where a reader is in one engine's access trace. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from serving.contract import EngineReport, TracePage


@dataclass(slots=True)
class TraceCursor:
    """One engine's trace as far as it was read; a new one begins with the ring's oldest event."""

    next: int = 0
    """The first event that was not read."""
    end: int = 0
    """How many events the trace had ever held when it was last looked at."""
    lost_events: int = 0
    """Events that the ring had overwritten before they were read, since this cursor exists."""
    has_read: bool = False
    error: str | None = None
    """Why the last look failed."""
    started_at: float | None = None

    @property
    def lag_events(self) -> int:
        """Events that are known of and not read."""
        return max(0, self.end - self.next)

    def observe(self, report: EngineReport) -> bool:
        """Take note of a report; whether a page may have something new.

        A later life of the engine whose trace ends before this cursor has another ring: its events
        are read from the start.
        """
        is_new_life = self.started_at is not None and report.started_at > self.started_at
        self.started_at = report.started_at
        if is_new_life and report.trace_position < self.next:
            self.next = self.end = 0
        self.end = max(self.end, report.trace_position)
        return self.lag_events > 0

    def advance(self, page: TracePage) -> None:
        """This page was read; what lies before its first event is gone for good.

        At the very first look nothing is called lost: the ring simply begins there.
        """
        if page.end < self.next:
            self.next, self.end = 0, page.end
            return
        if self.has_read and page.first > self.next:
            self.lost_events += page.first - self.next
        self.has_read, self.error = True, None
        self.next, self.end = page.next, page.end
