"""Validation: files alone, seconds, no GPU and no torch.

The bytes are fetched by digest and verified, preflight judges them, and a training fingerprint that
came with them is compared module by module (link A's static half).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.base_model import BaseModelCard
from adapters.errors import (
    ArtifactNotFound,
    DigestMismatch,
    FingerprintInvalid,
    StoreUnavailable,
    TensorFileInvalid,
)
from adapters.limits import EngineLimits
from adapters.manifest import FINGERPRINT_FILE, TENSOR_FILE
from adapters.parity.export_evidence import ExportFinding
from adapters.parity.fingerprint_check import check_fingerprint
from adapters.parity.fingerprint_file import MAX_BYTES, parse_fingerprint, read_module_facts
from adapters.peft_config import LoraSpec
from adapters.preflight import check_folder
from serving.controller.lifecycle import Event
from serving.controller.registry.moves import Move
from serving.controller.registry.tables import VersionRow
from serving.controller.steps.context import StepContext
from serving.controller.steps.lease import Lease
from serving.controller.steps.outcome import Done, Outcome, Retry, Terminal

_EXPORT_FIX = "Upload the files that this training run saved; do not edit them afterwards."


@dataclass(frozen=True, slots=True)
class FileCheck:
    """What the files say: findings as JSON, and the rank where it could be read."""

    findings: list[dict[str, Any]]
    rank: int | None

    @property
    def blocking_codes(self) -> list[str]:
        """Codes of the findings that refuse the adapter, each once."""
        codes = (item["code"] for item in self.findings if item["severity"] == "blocking")
        return list(dict.fromkeys(codes))


async def validate(context: StepContext, row: VersionRow, lease: Lease) -> Outcome:
    """Rejected with findings, or on to the gate."""
    if context.card is None:
        return Retry("base_model_unset")
    lease.progress("checks")
    try:
        folder = await context.store.fetch(row.digest, context.artifacts_dir)
    except StoreUnavailable as exc:
        return Retry(exc.code, detail=exc.fields)
    except (ArtifactNotFound, DigestMismatch) as exc:
        # Bytes that were acknowledged are gone or damaged: nothing about the adapter is known.
        return Terminal(exc.code, detail=exc.fields)
    checked = await asyncio.to_thread(
        check_files, folder, context.card, context.limits(context.card)
    )
    codes = checked.blocking_codes
    if codes:
        reason = ", ".join(codes)
        move = Move(event=Event.REJECT, reason=reason, evidence={"codes": codes})
    else:
        move = Move(event=Event.ACCEPT)
    await lease.apply(move=move, findings=checked.findings, rank=checked.rank)
    return Done()


def check_files(folder: Path, card: BaseModelCard, limits: EngineLimits) -> FileCheck:
    """Preflight and the static half of the fingerprint; blocks while it reads every byte."""
    report = check_folder(folder, card, limits)
    findings = [finding.to_json() for finding in report.findings]
    if report.spec is not None and not report.is_blocked:
        findings += _check_export(folder, report.spec)
    return FileCheck(findings, report.spec.max_rank if report.spec else None)


def _check_export(folder: Path, spec: LoraSpec) -> list[dict[str, Any]]:
    path = folder / FINGERPRINT_FILE
    if not path.is_file():
        return []
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    try:
        fingerprint = parse_fingerprint(data)
        facts = read_module_facts(spec, folder / TENSOR_FILE)
    except (FingerprintInvalid, TensorFileInvalid) as exc:
        unreadable = ExportFinding(exc.code, FINGERPRINT_FILE, exc.fields, None, exc.title)
        return [_to_finding(unreadable)]
    return [_to_finding(item) for item in check_fingerprint(fingerprint, facts)]


def _to_finding(item: ExportFinding) -> dict[str, Any]:
    return {
        "code": item.code,
        "severity": "blocking" if item.is_mismatch else "warning",
        "meaning": item.text,
        "where": item.where,
        "found": item.found,
        "allowed": item.trained,
        "fix": _EXPORT_FIX,
    }
