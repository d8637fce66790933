"""Comparing a suite with a training set without holding up the API: in a child, one at a time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import Process
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import structlog

from adapters.errors import (
    AdapterError,
    ContaminationFailed,
    SuiteInvalid,
    TrainingSetInvalid,
)
from adapters.parity.contamination import ContaminationReport, ContaminationRules
from adapters.parity.policy import GatePolicy
from serving.controller.errors import UploadsBusy

log = structlog.get_logger()

_MODULE = "adapters.parity.contamination_process"
_TOLD: dict[str, type[AdapterError]] = {
    error.code: error for error in (SuiteInvalid, TrainingSetInvalid)
}
"""Errors that the child tells; anything else is its own failure."""
_MAX_LINE_BYTES = 64 * 1024**2
"""The last line holds the report: at most a leak for each of a suite's cases."""
_MAX_LOG_BYTES = 2000
_MAX_QUEUED = 3
"""The one that runs and those that wait, each with its upload's place; arbitrary."""
_RETRY_AFTER_SECONDS = 30


def rules_of(policy: GatePolicy) -> ContaminationRules:
    """What counts as contamination by a policy."""
    return ContaminationRules(**asdict(policy.contamination))


class ContaminationCheck:
    """The comparisons of one controller process: later ones wait for their turn."""

    def __init__(self, *, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._turn = asyncio.Lock()
        self._n_queued = 0

    async def compare(
        self, suite: Path, training: Path, *, rules: ContaminationRules, digest: str
    ) -> ContaminationReport:
        """The report on two files; `digest` is the training set's, kept in the report.

        Whoever gives up waiting takes the child with them.

        Raises:
            SuiteInvalid, TrainingSetInvalid: a file cannot be read as what it should be.
            UploadsBusy: too many wait already; they would keep uploads of versions out.
            ContaminationFailed: the child died, or took longer than allowed.
        """
        if self._n_queued >= _MAX_QUEUED:
            raise UploadsBusy(limit=_MAX_QUEUED, retry_after_seconds=_RETRY_AFTER_SECONDS)
        self._n_queued += 1
        try:
            async with self._turn:
                last = await self._run(suite, training, rules)
        finally:
            self._n_queued -= 1
        return replace(_report(last), training_digest=digest)

    async def _run(self, suite: Path, training: Path, rules: ContaminationRules) -> dict[str, Any]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            _MODULE,
            str(suite),
            str(training),
            json.dumps(rules.to_json()),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_MAX_LINE_BYTES,
            # A group of its own: the child may have started another, which ends with it.
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await _listen(process)
        except TimeoutError as exc:
            reason = f"took longer than {self._timeout_seconds:g} seconds"
            raise ContaminationFailed(reason=reason) from exc
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _listen(process: Process) -> dict[str, Any]:
    """The child's last message."""
    complaints = asyncio.create_task(_tail(process.stderr))
    last: dict[str, Any] = {}
    try:
        while process.stdout is not None and (line := await process.stdout.readline()):
            last = json.loads(line)
        if not last.keys() & {"report", "error"}:
            log.error("contamination_process_died", log_tail=await complaints)
        return last
    finally:
        complaints.cancel()


async def _tail(stream: asyncio.StreamReader | None) -> str:
    tail = b""
    while stream is not None and (piece := await stream.read(_MAX_LOG_BYTES)):
        tail = (tail + piece)[-_MAX_LOG_BYTES:]
    return tail.decode(errors="replace")


def _report(last: dict[str, Any]) -> ContaminationReport:
    if "report" in last:
        return ContaminationReport.from_json(last["report"])
    error = last.get("error", {})
    if error.get("code") in _TOLD:
        raise _TOLD[error["code"]](**error["fields"])
    raise ContaminationFailed(reason="the process ended without a report; the log has its words")
