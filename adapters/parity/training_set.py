"""A training set as the texts that a model was trained to go on from, read as a stream.

JSON lines; each line is one of `{"messages"}`, `{"conversations"}` (ShareGPT), `{"prompt"}` with
`{"completion"}` or not, and `{"text"}`, whatever else it holds: a suite's own lines are among them.
Never more than a line in memory. What of it is compared is `compared_text`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

from adapters.errors import TrainingSetInvalid
from adapters.parity.compared_text import (
    ROLES,
    Turn,
    beginnings,
    content_text,
    split_rendered,
)
from adapters.parity.contamination import TrainingText

_SHAPES = 'write {"messages"}, {"conversations"}, {"prompt", "completion"} or {"text"}'
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSetLimits:
    """Bounds of reading one training set; both arbitrary, far above what training sets hold."""

    max_line_bytes: int = 4 * 1024**2
    max_documents: int = 5_000_000


class Part(NamedTuple):
    """Every line whose number leaves the remainder `number` when divided by `of`."""

    number: int
    of: int


WHOLE = Part(0, 1)


def read_training_set(
    file: BinaryIO, *, limits: TrainingSetLimits | None = None, part: Part = WHOLE
) -> Iterator[TrainingText]:
    """The texts of a training set, line by line; blank lines are skipped but counted.

    Of a `part` alone the lines are taken apart; the limits hold for the whole file all the same.

    A conversation gives one text per answer in it: what was said before. A `text`, or a `prompt`,
    that a chat template made is taken apart; any other `text` is one plain document.

    Raises:
        TrainingSetInvalid: with line (from 1; 0: the whole file), field, problem and fix; also
            where a line or the file is over a limit.
    """
    limits = limits or TrainingSetLimits()
    n_documents = 0
    for number, line in _lines(file, limits.max_line_bytes):
        n_documents += 1
        if n_documents > limits.max_documents:
            problem = f"more than {limits.max_documents} documents"
            raise _invalid(number, "", problem, "compare with a part of the training set")
        if number % part.of == part.number:
            yield from _texts(number, _parse(number, line))
    if not n_documents:
        raise _invalid(0, "", "no document", "write one JSON object per line")


def _lines(file: BinaryIO, max_bytes: int) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := file.readline(max_bytes + 1):
        number += 1
        if len(line) > max_bytes:
            problem, fix = f"longer than {max_bytes} bytes", "write one document per line"
            raise _invalid(number, "", problem, fix)
        if number == 1:
            line = line.removeprefix(_BOM)
        if line.strip():
            yield number, line


def _parse(number: int, line: bytes) -> Mapping[str, Any]:
    try:
        raw = json.loads(line.decode())
    except UnicodeDecodeError as exc:
        raise _invalid(number, "", f"not UTF-8: {exc.reason}", "save the file as UTF-8") from exc
    except (ValueError, RecursionError) as exc:
        raise _invalid(number, "", "not JSON", "write one JSON object per line") from exc
    if not isinstance(raw, dict):
        raise _invalid(number, "", f"found {_short(raw)}", _SHAPES)
    return raw


def _texts(number: int, raw: Mapping[str, Any]) -> Iterator[TrainingText]:
    is_plain = False
    if isinstance(raw.get("messages"), list):
        turns = _turns(number, "messages", raw["messages"])
    elif isinstance(raw.get("conversations"), list):
        turns = _turns(number, "conversations", raw["conversations"])
    elif isinstance(raw.get("prompt"), list):
        turns = _turns(number, "prompt", raw["prompt"])
    elif isinstance(raw.get("prompt"), str):
        turns = split_rendered(raw["prompt"]) or [Turn("user", raw["prompt"])]
    elif isinstance(raw.get("text"), str):
        rendered = split_rendered(raw["text"])
        turns, is_plain = rendered or [Turn("user", raw["text"])], rendered is None
    else:
        field = next((f for f in ("messages", "conversations", "prompt", "text") if f in raw), "")
        problem = f"found {_short(raw[field])}" if field else "none of the known fields"
        raise _invalid(number, field, problem, _SHAPES)
    texts = [*beginnings(turns)]
    # Without a text it is a document all the same: it was compared, and is like no case.
    for text in texts or [""]:
        yield TrainingText(number, text, is_plain)


def _turns(number: int, field: str, raw: list[Any]) -> list[Turn]:
    return [_turn(number, f"{field}[{index}]", item) for index, item in enumerate(raw)]


def _turn(number: int, field: str, item: Any) -> Turn:
    if not isinstance(item, Mapping):
        fix = 'write {"role", "content"} or {"from", "value"}'
        raise _invalid(number, field, f"found {_short(item)}", fix)
    key = "from" if "from" in item else "role"
    role = ROLES.get(item[key].lower()) if isinstance(item.get(key), str) else None
    if role is None:
        fix = f"use one of {', '.join(ROLES)}"
        raise _invalid(number, f"{field}.{key}", f"found {_short(item.get(key))}", fix)
    if not {"content", "value"} & item.keys() and role in {"user", "tool"}:
        name = "content" if key == "role" else "value"
        raise _invalid(number, f"{field}.{name}", "absent", "write the message's text")
    return Turn(role, content_text(item["content"] if "content" in item else item.get("value")))


def _invalid(line: int, field: str, problem: str, fix: str) -> TrainingSetInvalid:
    return TrainingSetInvalid(line=line, field=field, problem=problem, fix=fix)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
