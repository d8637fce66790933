"""A small standalone deployment with the OpenAI API: what a tenant may already run.

Its model is a rule: the next token is a function of the last one, with a fixed probability.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse

KEY = "key-of-the-deployment"
STOP = 9
_OWN, _OTHER = math.log(0.7), math.log(0.01)


def next_token(token: int) -> int:
    return (token * 7 + 3) % 11


@dataclass
class FakeDeployment:
    name: str = "standalone"
    key: str | None = KEY
    has_prompt_logprobs: bool = True
    parses_tool_calls: bool = True
    refuses_tool_choice_auto: bool = False
    statuses: list[int] = field(default_factory=list)
    """Statuses of the next requests; 200 again when used up."""
    answers_as: list[str] = field(default_factory=lambda: ["standalone-2026-01"])
    """Names under which it answers, in turn; the last one stays."""
    malformed: Any = None
    in_flight: int = 0
    most_in_flight: int = 0

    @property
    def app(self) -> FastAPI:
        app = FastAPI()
        app.get("/v1/models")(lambda: {"data": [{"id": self.name}]})
        app.post("/v1/completions")(self._completions)
        app.post("/v1/chat/completions")(self._chat)
        return app

    async def _completions(self, request: Request, authorization: str = Header("")) -> Any:
        body = await request.json()
        if (problem := self._problem(authorization, body)) is not None:
            return problem
        prompt = body["prompt"]
        if "prompt_logprobs" in body:
            if not self.has_prompt_logprobs:
                return _error(400, "unknown field prompt_logprobs")
            read = [None, *map(_thought, prompt, prompt[1:])]
            return self._reply({"text": "", "prompt_logprobs": read})
        return self._reply({"text": f"to {prompt}", "finish_reason": "length"})

    async def _chat(self, request: Request, authorization: str = Header("")) -> Any:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0)
        body = await request.json()
        self.in_flight -= 1
        if (problem := self._problem(authorization, body)) is not None:
            return problem
        if self.malformed is not None:
            return JSONResponse(self.malformed)
        choice = body.get("tool_choice", "auto")
        if body.get("tools") and choice == "auto" and self.refuses_tool_choice_auto:
            return _error(400, "auto needs a parser")
        question = body["messages"][-1]["content"]
        if body.get("tools") and choice == "auto" and self.parses_tool_calls:
            function = {"name": body["tools"][0]["function"]["name"], "arguments": "{}"}
            calls = [{"id": "1", "type": "function", "function": function}]
            message = {"content": None, "tool_calls": calls}
        else:
            message = {"content": f"about {question}"}
        return self._reply({"message": message, "finish_reason": "stop"})

    def _problem(self, authorization: str, body: dict[str, Any]) -> JSONResponse | None:
        if self.key is not None and authorization != f"Bearer {self.key}":
            return _error(401, "who are you")
        if body["model"] != self.name or body["temperature"] != 0:
            return _error(404, "no such model")
        status = self.statuses.pop(0) if self.statuses else 200
        return None if status == 200 else _error(status, "a test wants it so")

    def _reply(self, choice: dict[str, Any]) -> dict[str, Any]:
        name = self.answers_as.pop(0) if len(self.answers_as) > 1 else self.answers_as[0]
        return {"model": name, "choices": [choice]}


def _thought(before: int, token: int) -> dict[str, Any]:
    own = next_token(before)
    thought = {str(own): {"logprob": _OWN, "rank": 1, "decoded_token": "x"}}
    return thought if token == own else {**thought, str(token): {"logprob": _OTHER, "rank": 4}}


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message}}, status_code=status)
