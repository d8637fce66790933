"""Texts as sets of character shingles: normalisation, keys for arithmetic, exact similarity.

Pure, numpy only.
"""

from __future__ import annotations

import unicodedata

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

# Odd and without structure: two shingles share a key with a chance of about 2^-64.
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xFF51AFD7ED558CCD)
_SHIFT = np.uint64(32)


def normalise(text: str) -> str:
    """Case-folded, in one Unicode form (NFKC), each run of whitespace one blank, none at the ends.

    Spelling of the same characters (full width, composed or not) is no difference between texts.
    """
    if not text.isascii():
        folded = unicodedata.normalize("NFKC", text).casefold()
        return " ".join(unicodedata.normalize("NFKC", folded).split())
    return " ".join(text.lower().split())


def shingle_set(text: str, size: int) -> frozenset[str]:
    """All substrings of `size` characters of a normalised text.

    A shorter text is its own only shingle, so it is like nothing but itself; an empty one has none.
    """
    if len(text) <= size:
        return frozenset({text} if text else ())
    return frozenset(text[i : i + size] for i in range(len(text) - size + 1))


def shingle_keys(text: str, size: int) -> Keys:
    """`shingle_set` as sorted 64-bit keys: the same shingle has the same key in every text."""
    if not text:
        return np.empty(0, np.uint64)
    codes = _codes(text)
    width = min(size, len(codes))
    n_shingles = len(codes) - width + 1
    keys = np.full(n_shingles, width, np.uint64)
    for start in range(width):
        keys *= _FACTOR
        keys += codes[start : start + n_shingles]
    keys ^= keys >> _SHIFT
    keys *= _MIX
    keys ^= keys >> _SHIFT
    keys.sort()
    is_first = np.ones(n_shingles, bool)
    np.not_equal(keys[1:], keys[:-1], out=is_first[1:])
    distinct: Keys = keys[is_first]
    return distinct


def _codes(text: str) -> Keys:
    if text.isascii():
        return np.frombuffer(text.encode(), np.uint8).astype(np.uint64)
    # A lone surrogate, which JSON can spell, is a character like any other here.
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)


def jaccard(left: frozenset[str], right: frozenset[str]) -> float | None:
    """|left and right| / |left or right|; None of two empty sets, which says nothing."""
    n_both = len(left & right)
    n_any = len(left) + len(right) - n_both
    return n_both / n_any if n_any else None
