"""Which rows are read together, and what they share. Pure.

The plan is a function of the rows' content alone: the same rows in any order make the same batches,
so the same numbers to the last bit (on a CPU, with as many threads).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MAX_BATCH_TOKENS = 1024
"""Padded tokens of one forward pass; bounds its logits (200 MB with 49,152 tokens, float32)."""
_MAX_HELD_TOKENS = 8 * MAX_BATCH_TOKENS
"""Keys and values that a batch may hold, in tokens: every row holds its own copy of the prefix."""
_MIN_PREFIX = 8
"""Shorter common beginnings are read again: a pass of their own costs more."""
_MIN_SAVED = 256
"""A group splits off with a longer beginning of its own where that saves so many tokens."""


@dataclass(frozen=True, slots=True)
class Row:
    """Tokens to read; `targets[i]` is scored at position `start + i` (it follows that token)."""

    token_ids: tuple[int, ...]
    start: int
    targets: tuple[int, ...]

    @property
    def sort_key(self) -> tuple[int, tuple[int, ...], int, tuple[int, ...]]:
        """Length first, then content: no two different rows are equal in it."""
        return len(self.token_ids), self.token_ids, self.start, self.targets


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that begin alike: `prefix` is read once for all batches."""

    prefix: tuple[int, ...]
    batches: tuple[tuple[Row, ...], ...]


def plan_groups(rows: Iterable[Row], *, max_tokens: int = MAX_BATCH_TOKENS) -> list[Group]:
    """Distinct rows by common beginning, and within it in batches of similar length."""
    ordered = sorted(set(rows), key=lambda row: row.token_ids)
    if not ordered:
        return []
    groups = []
    for depth, members in _split(ordered, 0):
        # At least one token of every row is left to read.
        n_prefix = depth if depth >= _MIN_PREFIX and len(members) > 1 else 0
        batches = plan_batches(members, n_prefix=n_prefix, max_tokens=max_tokens)
        prefix = members[0].token_ids[:n_prefix]
        groups.append(Group(prefix, tuple(tuple(batch) for batch in batches)))
    return groups


def plan_batches(
    rows: Iterable[Row], *, n_prefix: int = 0, max_tokens: int = MAX_BATCH_TOKENS
) -> list[list[Row]]:
    """Rows in batches of similar length; what is left of them after the prefix is padded.

    A batch's padded size stays within `max_tokens`, and with the prefix within a fixed multiple of
    it; a single row that is longer makes a batch of its own.
    """
    batches: list[list[Row]] = []
    for row in sorted(rows, key=lambda item: item.sort_key):
        current = batches[-1] if batches else []
        n_rows, length = len(current) + 1, len(row.token_ids)
        fits = n_rows * (length - n_prefix) <= max_tokens and n_rows * length <= _MAX_HELD_TOKENS
        if current and fits:
            current.append(row)
        else:
            batches.append([row])
    return batches


def _split(ordered: Sequence[Row], depth: int) -> list[tuple[int, list[Row]]]:
    """(common beginning, rows), from rows in lexicographic order that agree up to `depth`."""
    depth = _common_length(ordered, depth)
    groups: list[tuple[int, list[Row]]] = []
    rest: list[Row] = []
    for branch in _branches(ordered, depth):
        deeper = _common_length(branch, depth)
        saved = (deeper - depth) * (len(branch) - 1) - deeper
        if len(branch) < len(ordered) and saved >= _MIN_SAVED:
            groups += _split(branch, deeper)
        else:
            rest += branch
    return [(depth, rest), *groups] if rest else groups


def _branches(ordered: Sequence[Row], depth: int) -> list[list[Row]]:
    branches: list[list[Row]] = []
    last: object = None
    for row in ordered:
        token = row.token_ids[depth : depth + 1]
        if not branches or token != last:
            branches.append([])
        branches[-1].append(row)
        last = token
    return branches


def _common_length(ordered: Sequence[Row], depth: int) -> int:
    # In lexicographic order the first and the last row differ earliest. The last token is kept out:
    # a row without a token of its own could not be read.
    first, last = ordered[0].token_ids, ordered[-1].token_ids
    limit = min(len(row.token_ids) for row in ordered) - 1
    while depth < limit and first[depth] == last[depth]:
        depth += 1
    return depth
