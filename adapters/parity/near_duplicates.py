"""Near-duplicates of a fixed set of texts in a stream of others: MinHash LSH, then exact Jaccard.

The fixed side (a suite's cases) is indexed, the stream (a training set) passes by, so memory does
not grow with it. Method: Mining of Massive Datasets, chapter 3; index and signatures: datasketch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

from adapters.parity.contamination import ContaminationRules
from adapters.parity.shingles import Keys, jaccard, normalise, shingle_keys, shingle_set

_SEED = 1
_MAX_TAIL = 1e-9
"""Share of the pairs at the lowest threshold that the count of equal signature values may drop;
nothing beside what the bands miss (`Banding.miss_probability`)."""
_BATCH = 256
_BATCH_CHARACTERS = 1_000_000
"""Documents that are signed, then looked up, together: each stage's tables stay in the cache."""
_SLICE = 512
"""Shingles permuted at once: 512 x 256 values of 4 bytes stay in a core's cache."""


@dataclass(slots=True)
class _Best:
    jaccard: float
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class _Read:
    line: int
    text: str
    """Normalised."""
    keys: Keys
    places: NDArray[np.int64]
    """Of the keys that any indexed text has: their numbers."""


class NearDuplicates:
    """Index `texts`, `read` documents in any order, then ask for the `matches`."""

    def __init__(self, texts: Sequence[str], rules: ContaminationRules) -> None:
        self._size, self._lowest = rules.shingle, rules.lowest
        self._texts = [normalise(text) for text in texts]
        self._best: dict[int, _Best] = {}
        self._waiting: list[_Read] = []
        self._n_waiting_characters = 0
        keys = [shingle_keys(text, self._size) for text in self._texts]
        self._sizes = np.array([len(item) for item in keys], np.int64)
        filled = self._sizes[self._sizes > 0]
        self._n_smallest, self._n_largest = (
            (int(filled.min()), int(filled.max())) if len(filled) else (1, 0)
        )
        # Every shingle of any case gets a small number, so that sets are compared by look-up.
        joined = np.concatenate([*keys, np.empty(0, np.uint64)])
        self._known, numbers = np.unique(joined, return_inverse=True)
        self._numbers = np.split(numbers, np.cumsum(self._sizes)[:-1]) if keys else []
        self._is_present = np.zeros(len(self._known), np.int32)
        self._signer = Signer(rules.num_perm)
        self._index = MinHashLSH(num_perm=rules.num_perm, params=tuple(rules.banding))
        self._low_bytes = np.zeros((len(keys), rules.num_perm), np.uint8)
        self._n_equal_at_least = _least_likely_count(rules.num_perm, rules.lowest)
        for number, item in enumerate(keys):
            if len(item):
                signature = self._signer.sign(item)
                self._index.insert(number, signature)
                self._low_bytes[number] = signature.hashvalues.astype(np.uint8)

    @property
    def n_without_text(self) -> int:
        """Indexed texts that have no shingle."""
        return int(np.count_nonzero(self._sizes == 0))

    def read(self, line: int, text: str) -> None:
        """Let one document pass; of the same line any number of texts may come."""
        read = self._prepare(line, text)
        if read is None:
            return
        self._waiting.append(read)
        self._n_waiting_characters += len(read.text)
        if len(self._waiting) >= _BATCH or self._n_waiting_characters >= _BATCH_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        waiting, self._waiting, self._n_waiting_characters = self._waiting, [], 0
        signatures = [self._signer.sign(read.keys) for read in waiting]
        for read, signature in zip(waiting, signatures, strict=True):
            self._compare(self._candidates(signature), read)

    def _prepare(self, line: int, text: str) -> _Read | None:
        """None where no case can be as similar as `lowest`."""
        text = normalise(text)
        # Exact: two sets of n and m elements have at most min(n, m) / max(n, m).
        if len(text) < self._lowest * self._n_smallest:
            return None
        keys = shingle_keys(text, self._size)
        n = len(keys)
        if not self._lowest * self._n_smallest <= n <= self._n_largest / self._lowest:
            return None
        places = np.searchsorted(self._known, keys)
        places[places == len(self._known)] = 0
        places = places[self._known[places] == keys]
        # Exact as well: no case can share a shingle that none has.
        return _Read(line, text, keys, places) if len(places) >= self._lowest * n else None

    def matches(self) -> Iterator[tuple[int, int, float]]:
        """(index of the text, line, Jaccard) of each text's most similar document, by index.

        Of equally similar documents the first line. Only those at `rules.lowest` or above. The
        Jaccard is computed once more from the shingles themselves, not from their keys.
        """
        self._flush()
        for number, best in sorted(self._best.items()):
            sets = (shingle_set(text, self._size) for text in (self._texts[number], best.text))
            exact = jaccard(*sets)
            if exact is not None and exact >= self._lowest:
                yield number, best.line, exact

    def _candidates(self, signature: MinHash) -> NDArray[np.int64]:
        """Texts that share a band, but for those whose signatures are far too unlike.

        Equal values have equal low bytes, so counting these drops no text that whole values keep.
        """
        numbers = np.array(self._index.query(signature), np.int64)
        is_equal = self._low_bytes[numbers] == signature.hashvalues.astype(np.uint8)
        n_equal = is_equal.view(np.uint8).sum(axis=1, dtype=np.uint16)
        alike: NDArray[np.int64] = numbers[n_equal >= self._n_equal_at_least]
        return alike

    def _compare(self, candidates: NDArray[np.int64], read: _Read) -> None:
        n, places = len(read.keys), read.places
        sizes = self._sizes[candidates]
        at_most = np.minimum(len(places), sizes) / np.maximum(n, sizes)
        candidates = candidates[at_most >= self._lowest]
        if not len(candidates):
            return
        chosen = candidates.tolist()
        self._is_present[places] = 1
        present = self._is_present[np.concatenate([self._numbers[i] for i in chosen])]
        self._is_present[places] = 0
        sizes = self._sizes[candidates]
        n_both = np.add.reduceat(present, np.cumsum(sizes) - sizes)
        similar = n_both / (n + sizes - n_both)
        for place in np.flatnonzero(similar >= self._lowest).tolist():
            self._keep(chosen[place], float(similar[place]), read)

    def _keep(self, number: int, similarity: float, read: _Read) -> None:
        best = self._best.get(number)
        if best is None or (-similarity, read.line) < (-best.jaccard, best.line):
            self._best[number] = _Best(similarity, read.line, read.text)


class Signer:
    """MinHash signatures by datasketch's permutations, of keys that are well mixed already.

    `MinHash.update_batch` would take them one by one through Python, and mix them once more.
    """

    def __init__(self, num_perm: int) -> None:
        self._empty = MinHash(num_perm=num_perm, seed=_SEED, scheme="affine32")
        self._scratch = np.empty((_SLICE, num_perm), np.uint32)

    def sign(self, keys: Keys) -> MinHash:
        """The signature of a set that is not empty."""
        factors, offsets = self._empty.permutations
        low = keys.astype(np.uint32)
        values = self._empty.hashvalues
        for start in range(0, len(low), _SLICE):
            piece = low[start : start + _SLICE, None]
            permuted = self._scratch[: len(piece)]
            np.multiply(piece, factors, out=permuted)
            np.add(permuted, offsets, out=permuted)
            values = np.minimum(values, permuted.min(axis=0))
        return MinHash(
            hashvalues=values,
            permutations=self._empty.permutations,
            seed=_SEED,
            scheme="affine32",
        )


def _least_likely_count(n: int, probability: float) -> int:
    """The largest k that Binomial(n, probability) falls short of with at most `_MAX_TAIL`."""
    below, k = 0.0, 0
    while k < n:
        below += math.comb(n, k) * probability**k * (1.0 - probability) ** (n - k)
        if below > _MAX_TAIL:
            break
        k += 1
    return k
