"""Who asks the servers of the cold load scenario: one request at a time, and beside a stream."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.closed_loop import Ask, body_of, is_token, prompt_of
from bench.cold_engine import ColdEngine, ColdEngineFailed, StoredAdapter

OURS, IN_STEP = "prefetch", "in the step"
_STREAM_TOKENS = 900
_WAIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Place:
    """How many adapters are asked in turn, so that each is where its name says when it is asked.

    With one slot and `cpu_slots` places, an LRU has always just lost the one that is due next.
    """

    name: str
    n_in_turn: int
    is_dropped: bool = False


class Client:
    """Asks one server, one request of one token at a time."""

    def __init__(self, url: str, key: str | None, n_prompt: int) -> None:
        self.url, self.key, self._n_prompt = url, key, n_prompt
        self._http = httpx.Client(timeout=120, trust_env=False)
        self._number = 0

    def status_and_seconds(self, model: str) -> tuple[int, float]:
        """HTTP status, and seconds to the first token; the text is read to its end."""
        self._number += 1
        ask = Ask(self.url, model, self.key, n_prompt=self._n_prompt, n_output=1)
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        body = body_of(ask, prompt_of(self._number, self._n_prompt))
        started, first = time.perf_counter(), 0.0
        url = f"{self.url}/v1/completions"
        with self._http.stream("POST", url, json=dict(body), headers=headers) as response:
            for line in response.iter_lines():
                if not first and is_token(line):
                    first = time.perf_counter() - started
        return response.status_code, first

    def seconds(self, model: str) -> float:
        """Seconds to the first token.

        Raises:
            ColdEngineFailed: another status than 200.
        """
        status, seconds = self.status_and_seconds(model)
        if status != httpx.codes.OK:
            raise ColdEngineFailed(f"{model} at {self.url}: status {status}")
        return seconds


def drop_from_page_cache(folder: Path) -> None:
    """Have the next read of a folder's files go to the disk, as far as the system does as asked."""
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


class Side:
    """One of the two servers: how it is asked, and where it has an adapter's files."""

    def __init__(self, name: str, client: Client, engine: ColdEngine) -> None:
        self.name, self.client, self._engine = name, client, engine

    def files(self, adapter: StoredAdapter) -> Path:
        """The folder that it reads.

        Raises:
            ColdEngineFailed: our engine has no copy.
        """
        local = self._engine.local_folder(adapter) if self.name == OURS else adapter.source
        if local is None:
            raise ColdEngineFailed(f"the engine has no copy of {adapter.entry.name}")
        return local

    def settle(self, place: Place, adapters: Sequence[StoredAdapter]) -> None:
        """Ask each once, so that the first measured one is in its place too."""
        for adapter in adapters[: place.n_in_turn]:
            self.client.seconds(adapter.name)

    def seconds(self, place: Place, adapters: Sequence[StoredAdapter], number: int) -> float:
        """The time of request `number` to the adapter whose turn it is."""
        adapter = adapters[number % place.n_in_turn]
        if place.is_dropped:
            drop_from_page_cache(self.files(adapter))
        return self.client.seconds(adapter.name)


class Stream:
    """One request after another of the base model, in a thread; remembers when tokens came."""

    def __init__(self, url: str, key: str | None) -> None:
        self._url, self._key = url, key
        self._times: list[float] = []
        self._ends = threading.Event()

    @contextmanager
    def running(self) -> Iterator[Stream]:
        """Decode for as long as the block lasts."""
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        time.sleep(0.5)
        try:
            yield self
        finally:
            self._ends.set()
            thread.join(_WAIT_SECONDS)

    def largest_gap(self, since: float, until: float) -> float:
        """Seconds between two tokens of which the later came after `since`, the earlier before
        `until`; 0 without any."""
        times = list(self._times)
        pairs = itertools.pairwise(times)
        return max((b - a for a, b in pairs if b > since and a < until), default=0.0)

    def _run(self) -> None:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        ask = Ask(self._url, "base", self._key, n_prompt=8, n_output=_STREAM_TOKENS)
        with httpx.Client(timeout=120, trust_env=False) as client:
            while not self._ends.is_set():
                body = dict(body_of(ask, prompt_of(len(self._times), 8, seed=9)))
                url = f"{self._url}/v1/completions"
                with client.stream("POST", url, json=body, headers=headers) as response:
                    for line in response.iter_lines():
                        if is_token(line):
                            self._times.append(time.perf_counter())
                        if self._ends.is_set():
                            return
