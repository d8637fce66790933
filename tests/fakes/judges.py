"""Judges with the OpenAI API, each with a character: a rule from what it reads to what it says."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse

from serving.controller.judge_client import JudgeEndpoint

KEY = "key-of-the-judges"
NOWHERE = "http://127.0.0.1:1/v1"
Character = Callable[[str, str], str]
"""From the two answers, in the order in which they are shown, to the judge's whole reply."""

_FENCED = re.compile(r"<<answer ([AB]) (\w+)>>\n(.*?)\n<<end of answer \1 \2>>", re.DOTALL)


def better(choice: str) -> str:
    return json.dumps({"better": choice})


def likes(word: str) -> Character:
    """Prefers the answer with the word, wherever it stands."""

    def say(first: str, second: str) -> str:
        if (word in first) == (word in second):
            return better("tie")
        return better("A" if word in first else "B")

    return say


def prefers_first_place(_first: str, _second: str) -> str:
    return better("A")


def sees_no_difference(_first: str, _second: str) -> str:
    return better("tie")


def talks(first: str, _second: str) -> str:
    return f"I think A is better: {first}"


def throws_dice(seed: int) -> Character:
    rng = random.Random(seed)
    return lambda _first, _second: better(rng.choice(["A", "B"]))


@dataclass
class FakeJudges:
    """One endpoint for several judges, told apart by model name."""

    characters: Mapping[str, Character]
    key: str | None = KEY
    statuses: dict[str, list[int]] = field(default_factory=dict)
    """Statuses of a model's next requests; 200 again when used up."""
    body: Any = None
    """What a 200 holds instead of a completion."""
    is_silent: bool = False
    """Takes requests and never answers."""
    n_answered: dict[str, int] = field(default_factory=dict)
    in_flight: int = 0
    most_in_flight: int = 0

    @property
    def app(self) -> FastAPI:
        app = FastAPI()
        app.post("/v1/chat/completions")(self._chat)
        return app

    def endpoints(self, url: str) -> tuple[JudgeEndpoint, ...]:
        return tuple(
            JudgeEndpoint(f"judge-{model}", f"{url}/v1", model, self.key)
            for model in self.characters
        )

    async def _chat(self, request: Request, authorization: str = Header("")) -> Any:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(0)
            return await self._answer(await request.json(), authorization)
        finally:
            self.in_flight -= 1

    async def _answer(self, body: dict[str, Any], authorization: str) -> Any:
        model = body["model"]
        if self.is_silent:
            await asyncio.Event().wait()
        if self.key is not None and authorization != f"Bearer {self.key}":
            return JSONResponse({"error": {"message": "who are you"}}, status_code=401)
        if model not in self.characters or body["temperature"] != 0:
            return JSONResponse({"error": {"message": "no such model"}}, status_code=404)
        left = self.statuses.get(model, [])
        if left and (status := left.pop(0)) != 200:
            headers = {"Retry-After": "0"}
            return JSONResponse({"error": {"message": "wanted"}}, status, headers)
        self.n_answered[model] = self.n_answered.get(model, 0) + 1
        if self.body is not None:
            return JSONResponse(self.body)
        shown = {name: text for name, _, text in _FENCED.findall(body["messages"][-1]["content"])}
        said = self.characters[model](shown["A"], shown["B"])
        return {"model": model, "choices": [{"message": {"role": "assistant", "content": said}}]}
