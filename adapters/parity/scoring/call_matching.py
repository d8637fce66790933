"""Which call of an answer stands for which gold call, when several calls are made at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.parity.scoring.arguments import ArgumentScore, compare_arguments
from adapters.parity.scoring.parsed import ParsedCall
from adapters.parity.scoring.schemas import NO_SCHEMA, Schema


@dataclass(frozen=True, slots=True)
class CallMatch:
    """How an answer's calls meet the gold's: the pairs, and what is left on either side.

    Only calls of one name are paired.
    """

    pairs: tuple[tuple[str, ArgumentScore], ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]

    @property
    def n_same_names(self) -> int:
        """Calls of the right name: with only the names known, these many are right."""
        return len(self.pairs)


def match_calls(
    gold: Sequence[Mapping[str, Any]],
    calls: Sequence[ParsedCall],
    *,
    schemas: Mapping[str, Schema],
) -> CallMatch:
    """Pair as many calls as possible exactly, then the rest of one name by the highest F1.

    Calls in one answer are made at once, so their order means nothing. Exact pairs are a maximum
    matching: with alternatives in the gold, taking the first that fits could leave a right answer
    without its partner.
    """
    scores = {
        (i, j): compare_arguments(item, call.arguments, schemas.get(call.name, NO_SCHEMA))
        for i, item in enumerate(gold)
        for j, call in enumerate(calls)
        if item["name"] == call.name
    }
    exact = [[j for j in range(len(calls)) if _is_exact(scores, i, j)] for i in range(len(gold))]
    partner = _maximum_matching(exact)
    taken = set(partner.values())
    for i, j in sorted(scores, key=lambda pair: (-scores[pair].f1, pair)):
        if i not in partner and j not in taken:
            partner[i] = j
            taken.add(j)
    return CallMatch(
        pairs=tuple((gold[i]["name"], scores[i, j]) for i, j in sorted(partner.items())),
        missing=tuple(item["name"] for i, item in enumerate(gold) if i not in partner),
        extra=tuple(call.name for j, call in enumerate(calls) if j not in taken),
    )


def _is_exact(scores: Mapping[tuple[int, int], ArgumentScore], i: int, j: int) -> bool:
    score = scores.get((i, j))
    return score is not None and score.is_exact


def _maximum_matching(edges: Sequence[Sequence[int]]) -> dict[int, int]:
    """Left to right, of greatest size: augmenting paths (Berge 1957), without recursion."""
    partner: dict[int, int] = {}
    owner: dict[int, int] = {}
    for start in range(len(edges)):
        came_from: dict[int, int] = {}
        waiting = [start]
        while waiting:
            left = waiting.pop()
            free = next((j for j in edges[left] if j not in owner), None)
            if free is not None:
                came_from[free] = left
                _flip(free, came_from, partner, owner)
                break
            for right in edges[left]:
                if right not in came_from:
                    came_from[right] = left
                    waiting.append(owner[right])
    return partner


def _flip(
    right: int, came_from: Mapping[int, int], partner: dict[int, int], owner: dict[int, int]
) -> None:
    while True:
        left = came_from[right]
        before = partner.get(left)
        partner[left], owner[right] = right, left
        if before is None:
            return
        right = before
