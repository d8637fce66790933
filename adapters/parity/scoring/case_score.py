"""Level 3: one answer against its case's gold. `docs/scoring.md` defines every measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from adapters.parity.scoring.arguments import ArgumentScore, compare_json
from adapters.parity.scoring.call_matching import CallMatch, match_calls
from adapters.parity.scoring.json_values import decode_answer
from adapters.parity.scoring.normalise import normalise_text
from adapters.parity.scoring.parsed import Malformed, ParsedAnswer, without_thought
from adapters.parity.scoring.recovery import is_recovered
from adapters.parity.scoring.schemas import tool_schemas
from adapters.parity.scoring.tool_calls import parse_tool_calls
from adapters.parity.suite import Case

_MAX_DETAIL = 300


@dataclass(frozen=True, slots=True)
class CaseScore:
    """The measures of one answer; a measure that its gold does not define is None.

    `kind` is the kind of gold that was used: `tool_calls`, `json` or `text`. `score` is in 0..1,
    the one number per case for comparisons with partial credit: the F1 of the fields, or 0 and 1
    where there are none. `is_pass` is true only where every part is right. `detail` says in a few
    words what is wrong, empty when nothing is.
    """

    case_id: str
    kind: str
    is_pass: bool
    score: float
    tool_selection: float | None = None
    argument_exact: bool | None = None
    argument_f1: float | None = None
    n_fields: int | None = None
    n_hallucinated: int | None = None
    recovery: bool | None = None
    trajectory_delta: int | None = None
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """All fields, as the report keeps them."""
        return asdict(self)


def score_answer(
    case: Case, text: str, *, tool_calls: Sequence[Mapping[str, Any]] | None = None
) -> CaseScore | None:
    """The measures of an answer to a case; None when the case has no gold.

    Args:
        case: with the gold as `adapters.parity.suite.Case` describes it.
        text: what the model answered.
        tool_calls: those of an OpenAI chat response, where the engine has parsed them itself.
    """
    if case.expect is None:
        return None
    choices = case.expect.get("any_of", [case.expect])
    scores = [_score(case, gold, text, tool_calls) for gold in choices]
    # The first of the best, so that the order in the suite decides between equals.
    return max(scores, key=lambda score: (score.is_pass, score.score))


def _score(
    case: Case,
    gold: Mapping[str, Any],
    text: str,
    tool_calls: Sequence[Mapping[str, Any]] | None,
) -> CaseScore:
    if "text" in gold:
        return _score_text(case, gold, without_thought(text))
    if "json" in gold:
        return _score_json(case, gold["json"], without_thought(text))
    answer = parse_tool_calls(text, tool_calls=tool_calls)
    if not gold["tool_calls"]:
        return _score_no_call(case, answer)
    return _score_calls(case, gold["tool_calls"], answer)


def _score_text(case: Case, gold: Mapping[str, Any], said: str) -> CaseScore:
    wanted, found = normalise_text(gold["text"]), normalise_text(said)
    is_contained = gold.get("match") == "contains"
    is_pass = wanted in found if is_contained else wanted == found
    detail = "" if is_pass else "the text is not in the answer" if is_contained else "other text"
    return CaseScore(case.id, "text", is_pass, float(is_pass), detail=detail)


def _score_json(case: Case, gold: Any, said: str) -> CaseScore:
    value = decode_answer(said, is_embedded_allowed=True)
    is_read = not isinstance(value, Malformed)
    score = compare_json(gold, value if is_read else None)
    return CaseScore(
        case.id,
        "json",
        is_pass=is_read and score.is_exact,
        score=score.f1 if is_read else 0.0,
        argument_exact=is_read and score.is_exact,
        argument_f1=score.f1 if is_read else 0.0,
        n_fields=score.n_fields,
        n_hallucinated=score.n_hallucinated,
        detail=_shortened(_wrong("", score) if is_read else "the answer holds no JSON"),
    )


def _score_no_call(case: Case, answer: ParsedAnswer) -> CaseScore:
    is_pass = not answer.calls and answer.problem is None
    names = ", ".join(ascii(call.name) for call in answer.calls) or answer.problem
    return CaseScore(
        case.id,
        "tool_calls",
        is_pass,
        float(is_pass),
        tool_selection=float(is_pass),
        trajectory_delta=len(answer.calls),
        detail="" if is_pass else _shortened(f"no call was due: {names}"),
    )


def _score_calls(case: Case, gold: Sequence[Mapping[str, Any]], answer: ParsedAnswer) -> CaseScore:
    schemas = tool_schemas(case.tools)
    match = match_calls(gold, answer.calls, schemas=schemas)
    # A call that was begun and cannot be read is a call too many: it would fail at the client.
    n_made = len(answer.calls) + (answer.problem is not None)
    selection = match.n_same_names / max(len(gold), n_made)
    f1 = sum(score.f1 for _, score in match.pairs) / (len(gold) + n_made - match.n_same_names)
    is_exact = not match.missing and all(score.is_exact for _, score in match.pairs)
    is_pass = selection == 1 and is_exact
    recovery = is_pass or is_recovered(case, answer, schemas=schemas) if case.is_recovery else None
    return CaseScore(
        case.id,
        "tool_calls",
        is_pass=is_pass,
        score=f1,
        tool_selection=selection,
        argument_exact=is_exact,
        argument_f1=f1,
        n_fields=sum(score.n_fields for _, score in match.pairs),
        n_hallucinated=sum(score.n_hallucinated for _, score in match.pairs),
        recovery=recovery,
        trajectory_delta=len(answer.calls) - len(gold),
        detail=_shortened(_explain(match, answer)),
    )


def _explain(match: CallMatch, answer: ParsedAnswer) -> str:
    parts = [answer.problem] if answer.problem else []
    if match.missing:
        parts.append(f"not called: {', '.join(map(ascii, match.missing))}")
    if match.extra:
        parts.append(f"called too much: {', '.join(map(ascii, match.extra))}")
    parts += [_wrong(f"{name!a} ", score) for name, score in match.pairs if not score.is_exact]
    return "; ".join(parts)


def _wrong(name: str, score: ArgumentScore) -> str:
    return "" if score.is_exact else f"{name}wrong in {', '.join(score.wrong)}"


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_DETAIL else text[: _MAX_DETAIL - 3] + "..."
