"""The whole chain from files to verdict; the "engine" is a second standalone model."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from adapters.errors import StrictLoadFailed
from adapters.parity.export_check import check_export
from adapters.parity.export_evidence import NO_EVIDENCE
from adapters.parity.fingerprint_file import FILE_NAME, parse_fingerprint
from adapters.parity.gate_plan import GateInputs, measure, measure_floor, plan_verification
from adapters.parity.numeric import CandidateAnswer
from adapters.parity.policy import GatePolicy
from adapters.parity.protocol import TokenizedPrompt
from adapters.parity.reference import Reference
from adapters.parity.verdict import VerdictKind, decide
from tests.builders.micro_base import live_adapter, rewrite_config, rewrite_tensors

PROMPTS = [TokenizedPrompt(f"case-{n}", tuple(range(5, 9 + 3 * n)), 6) for n in range(8)]


@dataclass
class Gate:
    """Strings the parts together as the controller does; keeps its floor."""

    base: Path
    reference: Reference = field(default_factory=Reference)

    async def verify(self, adapter, items, *, against_base=False):
        return self.reference.verify(str(adapter), items, against_base)

    def answers(self, adapter):
        told = {p.case_id: self.reference.generate(adapter, p.token_ids, 6) for p in PROMPTS}
        return tuple(
            CandidateAnswer(
                p.case_id, repeat, p.token_ids, told[p.case_id].token_ids, told[p.case_id].logprobs
            )
            for repeat in range(2)
            for p in PROMPTS
        )

    def rows(self, adapter, answers):
        plan = plan_verification(answers)
        rows = self.reference.verify(adapter, plan, adapter is not None)
        return dict(zip(plan, rows, strict=True))

    def floor(self, facts):
        answers = self.answers(None)
        return measure_floor(
            answers,
            self.rows(None, answers),
            engine_build="e",
            base_revision=facts.revision,
            dtype=facts.dtype,
            suite_digest="s",
        )

    async def judge(self, folder: Path, *, served: Path | None):
        facts = self.reference.load_base(str(self.base), "float32")
        ids = tuple(p.case_id for p in PROMPTS)
        try:
            alone = self.reference.check_finite(str(folder), PROMPTS)
        except StrictLoadFailed as exc:
            inputs = GateInputs(ids, facts.dtype, NO_EVIDENCE, load_problem=str(exc))
            return decide(measure(inputs), GatePolicy())
        path = folder / FILE_NAME
        fingerprint = parse_fingerprint(path.read_bytes()) if path.exists() else None
        export = await check_export(self, folder, fingerprint, alone=alone, base=facts)
        if export.is_mismatch or alone.non_finite_cases:
            inputs = GateInputs(ids, facts.dtype, export, alone.effects)
            return decide(measure(inputs), GatePolicy())
        answers = self.answers(None if served is None else str(served))
        inputs = GateInputs(
            ids,
            facts.dtype,
            export,
            alone.effects,
            answers,
            self.rows(str(folder), answers),
            self.floor(facts),
        )
        return decide(measure(inputs), GatePolicy())


@pytest.fixture(scope="module")
def gate(base):
    return Gate(base)


def codes(verdict):
    return [reason.code for reason in verdict.reasons]


async def test_a_good_adapter_that_is_served_as_it_is_passes(gate, trained):
    verdict = await gate.judge(trained, served=trained)

    assert verdict.kind is VerdictKind.PASS, verdict.reasons
    assert verdict.notes == ()


async def test_an_engine_that_answers_with_the_base_fails(gate, trained):
    verdict = await gate.judge(trained, served=None)

    assert verdict.kind is VerdictKind.FAIL
    assert codes(verdict) == ["engine_disagrees"]


async def test_an_engine_that_answers_with_another_adapter_fails(gate, base, trained, tmp_path):
    live_adapter(base, seed=8).save_pretrained(tmp_path)

    verdict = await gate.judge(trained, served=tmp_path)

    assert codes(verdict) == ["engine_disagrees"]


async def test_an_engine_that_scales_wrongly_fails(gate, trained, copy):
    rewrite_config(copy, lora_alpha=16)

    assert codes(await gate.judge(trained, served=copy)) == ["engine_disagrees"]


async def test_an_alpha_changed_after_training_fails_by_name_though_both_sides_agree(gate, copy):
    rewrite_config(copy, lora_alpha=16)

    verdict = await gate.judge(copy, served=copy)

    assert verdict.kind is VerdictKind.FAIL
    assert codes(verdict) == ["export_alpha_changed"]


async def test_without_a_fingerprint_the_same_mistake_passes_with_a_note(gate, copy):
    rewrite_config(copy, lora_alpha=16)
    (copy / FILE_NAME).unlink()

    verdict = await gate.judge(copy, served=copy)

    assert verdict.kind is VerdictKind.PASS
    assert [note.code for note in verdict.notes] == ["export_evidence_absent"]


async def test_a_prefix_off_by_one_level_fails_at_strict_loading(gate, copy):
    rewrite_tensors(
        copy, lambda t: {n.replace("model.model.", "model.", 1): v for n, v in t.items()}
    )

    assert codes(await gate.judge(copy, served=copy)) == ["strict_load_failed"]


async def test_an_inert_adapter_is_inconclusive(gate, copy):
    rewrite_tensors(copy, lambda t: {n: v * 0 if "lora_B" in n else v for n, v in t.items()})
    (copy / FILE_NAME).unlink()

    verdict = await gate.judge(copy, served=copy)

    assert verdict.kind is VerdictKind.INCONCLUSIVE
    assert codes(verdict) == ["inert_or_blind"]


async def test_huge_weights_fail_before_an_engine_is_asked(gate, copy):
    rewrite_tensors(copy, lambda t: {n: v * 1e20 for n, v in t.items()})
    (copy / FILE_NAME).unlink()

    assert codes(await gate.judge(copy, served=copy)) == ["not_finite"]
