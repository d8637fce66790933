"""Constant traffic on one alias while versions change underneath, and what became of it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import openai

from bench.demo.stage import Answer, Stage, ask


@dataclass(slots=True)
class Traffic:
    """Threads that ask one question over and over; a context manager."""

    stage: Stage
    tenant: str
    model: str
    prompt: str
    n_clients: int = 3
    answers: list[Answer] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Traffic:
        for index in range(self.n_clients):
            # Half of them stream: a stream must not change its version on the way.
            thread = threading.Thread(target=self._run, args=(index % 2 == 1,), daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=120)

    def _run(self, stream: bool) -> None:
        client = self.stage.client(self.tenant)
        while not self._stop.is_set():
            try:
                self.answers.append(ask(client, self.model, self.prompt, stream=stream))
            except openai.OpenAIError as exc:
                self.errors.append(f"{type(exc).__name__}: {exc}")

    def wait_for(self, version: str, *, n: int = 3, seconds: float = 60.0) -> None:
        """Return once `version` has answered at least `n` times, or the time is over."""
        pause = threading.Event()
        for _ in range(int(seconds / 0.1)):
            if self.by_version()[version] >= n:
                return
            pause.wait(0.1)

    def by_version(self) -> Counter[str]:
        """How many answers each version gave."""
        return Counter(answer.model for answer in list(self.answers))

    def mixed(self, known: Mapping[str, str]) -> list[Answer]:
        """Answers that are not what the version they name is known to say."""
        return [answer for answer in self.answers if known.get(answer.model) != answer.text]
