"""From verified answers to the standalone model's own answers, with as little generation as can be.

Pure. An answer whose every token is the standalone model's choice *is* its answer, by induction: it
sees the same tokens before each position and chooses the same next one. Only where no repeat of a
case agrees to the end is something left to generate, and only from the first divergence on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from adapters.parity.numeric import CandidateAnswer, Verified
from adapters.parity.protocol import ContinueItem, Generated


@dataclass(frozen=True, slots=True)
class Continuation:
    """What is left to generate of one case's standalone answer."""

    case_id: str
    prompt_token_ids: tuple[int, ...]
    known: tuple[int, ...]
    """The answer's beginning, known from verification; its last token is the standalone model's
    own choice where the engine chose another."""
    n: int
    """At most so many tokens are left."""

    @property
    def item(self) -> ContinueItem:
        """What the standalone side is asked."""
        return ContinueItem(self.case_id, self.prompt_token_ids + self.known, self.n)


@dataclass(frozen=True, slots=True)
class OwnAnswer:
    """The standalone model's own greedy answer to one case."""

    case_id: str
    token_ids: tuple[int, ...]
    n_verified: int
    """So many of its tokens were read and not generated."""


def plan_continuations(
    answers: Sequence[CandidateAnswer],
    rows: Verified,
    *,
    max_tokens: Mapping[str, int],
    stop_ids: Collection[int],
) -> list[Continuation]:
    """What the standalone side must generate so that each case has its own answer.

    At most one per case, from the repeat with which the standalone model agrees longest. None for a
    case whose answer is known already, and none where a forward pass was not finite.

    Raises:
        KeyError: an answer without its row, or a case without its `max_tokens`.
    """
    known = _known_by_case(answers, rows, stop_ids)
    return [
        Continuation(case_id, prompt, tokens, max_tokens[case_id] - len(tokens))
        for case_id, (prompt, tokens) in known.items()
        if not _is_complete(tokens, max_tokens[case_id], stop_ids)
    ]


def join_answers(
    answers: Sequence[CandidateAnswer],
    rows: Verified,
    generated: Mapping[str, Generated],
    *,
    max_tokens: Mapping[str, int],
    stop_ids: Collection[int],
) -> dict[str, OwnAnswer]:
    """The standalone model's answer by case id: what was verified, then what was generated.

    Args:
        answers: as given to `plan_continuations`, and so `rows`, `max_tokens`, `stop_ids`.
        generated: the continuations' results by case id.

    Raises:
        KeyError: a planned continuation is not in `generated`.
    """
    joined = {}
    for case_id, (_, tokens) in _known_by_case(answers, rows, stop_ids).items():
        is_complete = _is_complete(tokens, max_tokens[case_id], stop_ids)
        rest = () if is_complete else generated[case_id].token_ids
        joined[case_id] = OwnAnswer(case_id, tokens + rest, len(tokens))
    return joined


def _known_by_case(
    answers: Sequence[CandidateAnswer], rows: Verified, stop_ids: Collection[int]
) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    known: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    for answer in sorted(answers, key=lambda item: item.repeat):
        row = rows[answer.item]
        if not row.is_finite or not answer.token_ids:
            continue
        tokens = _known_tokens(answer.token_ids, row.argmax_ids, stop_ids)
        earlier = known.get(answer.case_id)
        if earlier is None or _rank(tokens, stop_ids) > _rank(earlier[1], stop_ids):
            known[answer.case_id] = (answer.prompt_token_ids, tokens)
    return known


def _known_tokens(
    read: Sequence[int], own: Sequence[int], stop_ids: Collection[int]
) -> tuple[int, ...]:
    # The standalone model's own choices are valid up to and including the first that differs: up to
    # there it has read its own answer. Behind a stop token it would have said nothing more.
    tokens: list[int] = []
    for theirs, ours in zip(read, own, strict=True):
        tokens.append(ours)
        if ours != theirs or ours in stop_ids:
            break
    return tuple(tokens)


def _rank(tokens: Sequence[int], stop_ids: Collection[int]) -> tuple[bool, int]:
    return bool(tokens) and tokens[-1] in stop_ids, len(tokens)


def _is_complete(tokens: Sequence[int], limit: int, stop_ids: Collection[int]) -> bool:
    return len(tokens) >= limit or (bool(tokens) and tokens[-1] in stop_ids)
