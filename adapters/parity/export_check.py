"""Link A at the gate: the training fingerprint against the standalone model, in one call."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from adapters.parity.export_evidence import NO_EVIDENCE, ExportEvidence, judge_answers, weigh
from adapters.parity.fingerprint_check import check_fingerprint
from adapters.parity.fingerprint_file import Fingerprint
from adapters.parity.protocol import BaseFacts, FinitenessReport, VerifyItem, VerifyRow


class Verifier(Protocol):
    """The part of `ReferenceClient` that is needed here."""

    async def verify(
        self, adapter: Path | None, items: list[VerifyItem], *, against_base: bool = False
    ) -> list[VerifyRow]:
        """Read answers with teacher forcing."""
        ...


async def check_export(
    client: Verifier,
    folder: Path,
    fingerprint: Fingerprint | None,
    *,
    alone: FinitenessReport,
    base: BaseFacts,
) -> ExportEvidence:
    """Compare modules and recorded answers; absent evidence where there is no fingerprint.

    The answers are read only when the modules match: with other modules they must differ.

    Raises:
        ReferenceFailed: the standalone process could not read the answers.
    """
    if fingerprint is None:
        return NO_EVIDENCE
    findings = check_fingerprint(fingerprint, alone.modules, base_revision=base.revision)
    answers = [item for item in fingerprint.recorded_answers if item.token_ids]
    if not any(item.is_mismatch for item in findings):
        items = [
            VerifyItem(f"fingerprint-{index}", answer.prompt_token_ids, answer.token_ids)
            for index, answer in enumerate(answers)
        ]
        rows = await client.verify(folder, items, against_base=True) if items else []
        findings += judge_answers(
            answers,
            rows,
            dtypes=(fingerprint.base.dtype, base.dtype),
            is_quantized=fingerprint.base.quantization is not None,
        )
    return weigh(findings, n_modules=len(fingerprint.modules), n_answers=len(answers))
