"""Module patterns of adapter configs: PEFT's matching rule, with a bound on its cost.

Patterns are uploaded by tenants and evaluated in shared processes (here, and in the engine's
serving loop), so one that could backtrack for ever is refused before anything matches it.
"""

from __future__ import annotations

import re
from functools import lru_cache

MAX_PATTERN_LENGTH = 512
MAX_MATCH_COST = 300_000
"""Steps one match may take, estimated; arbitrary, chosen so that 1,000 modules take seconds."""

# A module's name has about this many places where a repetition can end.
_STEPS_PER_REPETITION = 24
_ESCAPE_OR_CLASS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_BACK_REFERENCE = re.compile(r"\\[1-9]")
_REPEATED_GROUP = re.compile(r"\)[*+{]")
_SPECIAL_GROUP = re.compile(r"\(\?(?!:)")


def pattern_problem(pattern: str) -> str | None:
    """Why a pattern must not be matched, or None.

    Refused: what does not compile, repeated groups, look-around, back references, and patterns
    whose estimated cost is above `MAX_MATCH_COST`. A plain module name always passes.
    """
    if len(pattern) > MAX_PATTERN_LENGTH:
        return f"longer than {MAX_PATTERN_LENGTH} characters"
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as exc:
        return f"not a regular expression: {exc}"
    if any(_BACK_REFERENCE.fullmatch(part) for part in _ESCAPE_OR_CLASS.findall(pattern)):
        return "back references are not taken"
    plain = _ESCAPE_OR_CLASS.sub("x", pattern)
    if _REPEATED_GROUP.search(plain):
        return "a repeated group can backtrack for ever"
    if _SPECIAL_GROUP.search(plain):
        return "look-around and flags are not taken"
    if match_cost(pattern) > MAX_MATCH_COST:
        return "too many repetitions and alternatives"
    return None


def match_cost(pattern: str) -> int:
    """Upper estimate of the steps that one match takes; 1 for a plain name."""
    plain = _ESCAPE_OR_CLASS.sub("x", pattern)
    repetitions = len(re.findall(r"[*+{]", plain))
    optionals = len(re.findall(r"(?<![*+}(])\?", plain))
    alternatives = plain.count("|")
    groups = max(1, min(plain.count("("), alternatives))
    # Exponents are capped so that the estimate itself stays cheap.
    choices: int = (1 + alternatives) ** min(groups, 12)
    steps: int = _STEPS_PER_REPETITION ** min(repetitions, 8)
    optional: int = 2 ** min(optionals, 40)
    return steps * choices * optional


def matches_suffix(pattern: str, module: str) -> bool:
    """PEFT's rule for `rank_pattern` and `alpha_pattern` keys.

    The pattern has to match the end of the module's name, starting at its beginning or after a dot.
    Source: peft.utils.other.get_pattern_key, PEFT 0.21.
    """
    return _compiled(pattern).match(module) is not None


@lru_cache(maxsize=2048)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(.*\.)?({pattern})$")


def first_matching(patterns: tuple[str, ...], module: str) -> str | None:
    """The first pattern, in the config's order, that matches; the first one wins in PEFT too."""
    return next((pattern for pattern in patterns if matches_suffix(pattern, module)), None)
