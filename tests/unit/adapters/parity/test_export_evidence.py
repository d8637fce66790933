from dataclasses import dataclass, field
from pathlib import Path

import pytest

from adapters.parity.export_check import check_export
from adapters.parity.export_evidence import (
    NO_EVIDENCE,
    ExportStatus,
    RecordedAnswer,
    judge_answers,
    weigh,
)
from adapters.parity.fingerprint_file import FILE_NAME, parse_fingerprint, read_module_facts
from adapters.parity.protocol import BaseFacts, FinitenessReport, VerifyItem, VerifyRow
from adapters.peft_config import parse_lora_config
from tests.builders.micro_base import rewrite_config
from tests.builders.parity_cases import row_for

ANSWERS = [RecordedAnswer((1, n), (10, 11, 12), (-0.5, -0.5, -0.5)) for n in range(4)]
ITEMS = [VerifyItem("f", a.prompt_token_ids, a.token_ids) for a in ANSWERS]


def judged(*, dtypes=("float32", "float32"), is_quantized=False, **row):
    rows = [row_for(item, **row) for item in ITEMS]
    return judge_answers(ANSWERS, rows, dtypes=dtypes, is_quantized=is_quantized)


def test_answers_that_are_given_again_leave_nothing_to_say():
    assert judged(delta=0.001) == []


def test_answers_that_are_not_given_again_are_a_mismatch():
    (finding,) = judged(delta=0.2)

    assert finding.code == "export_answers_differ"
    assert finding.is_mismatch


def test_the_coarser_number_type_decides_how_much_may_differ():
    assert judged(delta=0.025, dtypes=("bfloat16", "float32")) == []
    assert judged(delta=0.025)[0].is_mismatch


def test_on_a_base_that_was_quantized_other_answers_decide_nothing():
    (finding,) = judged(delta=0.2, is_quantized=True)

    assert not finding.is_mismatch
    assert weigh([finding], n_modules=1, n_answers=4).status is ExportStatus.UNDECIDED


def test_another_token_beyond_a_near_tie_leaves_the_question_open():
    (finding,) = judged(divergent={1: 0.5})

    assert finding.code == "export_tokens_differ"
    assert not finding.is_mismatch
    assert judged(divergent={1: 0.01}) == []


def test_values_that_are_not_finite_are_a_mismatch():
    rows = [VerifyRow("f", False)] * 4

    (finding,) = judge_answers(ANSWERS, rows, dtypes=("float32",))

    assert finding.code == "export_answers_not_finite"


def controlled(*, delta, floor, effect=1.0):
    """Answers that are `delta` nats away now, where the base is `floor` away on the same tokens."""
    answers = [
        RecordedAnswer((1, n), (10, 11), (-0.5, -0.5), (-0.5 - effect, -0.5 - effect))
        for n in range(4)
    ]
    rows = [
        VerifyRow(
            "a",
            True,
            answer.token_ids,
            tuple(value - delta for value in answer.logprobs),
            tuple(value - delta for value in answer.logprobs),
            tuple(value - floor for value in answer.base_logprobs),
        )
        for answer in answers
    ]
    return [(f.code, f.is_mismatch) for f in judge_answers(answers, rows, dtypes=("bfloat16",))]


def test_a_base_that_rounds_as_coarsely_excuses_answers_that_are_a_little_off():
    assert controlled(delta=0.1, floor=0.08) == []
    assert controlled(delta=0.1, floor=0.005) == [("export_answers_differ", True)]
    assert controlled(delta=0.5, floor=0.08) == [("export_answers_differ", True)]


def test_a_base_that_is_off_by_as_much_as_the_adapter_changes_leaves_the_question_open():
    assert controlled(delta=0.4, floor=0.4) == [("export_answers_unclear", False)]
    assert controlled(delta=0.01, floor=0.4) == []


@pytest.mark.parametrize("answers", [[], [RecordedAnswer((1,), (), ())]])
def test_without_answers_the_question_stays_open(answers):
    rows = [VerifyRow("f", True)] * len(answers)

    (finding,) = judge_answers(answers, rows, dtypes=("float32",))

    assert finding.code == "export_answers_absent"
    assert not finding.is_mismatch


def test_each_status_has_its_first_line():
    mismatch, undecided = judged(delta=0.2)[0], judged(divergent={1: 0.5})[0]

    assert NO_EVIDENCE.first_line().startswith("Nothing independent vouches")
    assert "7 modules and 4 answers" in weigh([], n_modules=7, n_answers=4).first_line()
    both = weigh([undecided, mismatch], n_modules=1, n_answers=1)
    assert both.is_mismatch
    assert both.first_line().startswith("The files are not what was trained")
    assert "decides nothing" in weigh([undecided], n_modules=1, n_answers=1).first_line()
    assert mismatch.to_json()["code"] == "export_answers_differ"


@dataclass
class Verifier:
    """Gives rows that agree, or that are `delta` nats away."""

    delta: float = 0.0
    asked: list[VerifyItem] = field(default_factory=list)

    async def verify(self, adapter, items, *, against_base=False):
        self.asked += items
        return [
            VerifyRow(
                item.case_id,
                True,
                item.token_ids,
                tuple(-self.delta for _ in item.token_ids),
                tuple(-self.delta for _ in item.token_ids),
            )
            for item in items
        ]


def alone(folder: Path) -> FinitenessReport:
    spec = parse_lora_config((folder / "adapter_config.json").read_bytes())
    return FinitenessReport((), read_module_facts(spec, folder / "adapter_model.safetensors"))


def base_facts(revision: str | None) -> BaseFacts:
    return BaseFacts("m", revision or "", "float32", 1, {})


async def test_without_a_fingerprint_there_is_no_evidence(trained):
    evidence = await check_export(
        Verifier(), trained, None, alone=alone(trained), base=base_facts("r")
    )

    assert evidence == NO_EVIDENCE


async def test_modules_that_differ_are_told_without_reading_answers(copy):
    fingerprint = parse_fingerprint((copy / FILE_NAME).read_bytes())
    rewrite_config(copy, lora_alpha=16)
    verifier = Verifier()

    evidence = await check_export(
        verifier, copy, fingerprint, alone=alone(copy), base=base_facts(fingerprint.base.revision)
    )

    assert evidence.is_mismatch
    assert evidence.findings[0].code == "export_alpha_changed"
    assert verifier.asked == []


async def test_modules_that_match_are_confirmed_by_their_answers(trained):
    fingerprint = parse_fingerprint((trained / FILE_NAME).read_bytes())
    base = base_facts(fingerprint.base.revision)
    verifier = Verifier(delta=50.0)

    evidence = await check_export(verifier, trained, fingerprint, alone=alone(trained), base=base)

    assert len(verifier.asked) == 3
    assert evidence.findings[0].code == "export_answers_differ"
    assert (evidence.n_modules, evidence.n_answers) == (21, 3)
