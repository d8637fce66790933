"""A program that speaks the reference protocol badly on demand; the op of a request says how.

Torch-free and quick to start. `load_base` is remembered, so a test can see that it was asked again.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

_ROW = {"case_id": "c", "is_finite": True, "argmax_ids": [1]}
_LOADED: list[str] = []


def say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)  # noqa: T201 - the protocol


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        number, op, args = request["id"], request["op"], request["args"]
        if op == "load_base":
            load(number, args)
        elif op == "generate":
            # n asks for a behaviour.
            behave(number, args["n"])
        elif op == "verify":
            say({"id": number, "progress": {"done": 1, "total": 2}})
            say({"id": number, "progress": {"done": 2, "total": 2}})
            say({"id": number, "result": [_ROW]})
        elif op == "continue_from":
            done = [{"token_ids": [1], "logprobs": [-1.0], "text": "t"} for _ in args["items"]]
            say({"id": number, "result": done if args["adapter"] is None else done[1:]})
        elif op == "decode":
            say({"id": number, "result": [",".join(map(str, ids)) for ids in args["token_ids"]]})
        elif op == "merge":
            merge(number, Path(args["folder"]))
        elif op == "tokenize":
            fields = {"line": 0, "field": "a.prompt", "problem": "p", "fix": "f"}
            say({"id": number, "error": {"code": "suite_invalid", "fields": fields}})
        else:
            fields = {"missing": ["m"], "unexpected": [], "non_finite": [], "problem": ""}
            say({"id": number, "error": {"code": "strict_load_failed", "fields": fields}})


def load(number: int, args: dict[str, Any]) -> None:
    if args["model"] == "unloadable":
        say({"id": number, "error": {"code": "reference_failed", "fields": {"reason": "no base"}}})
        return
    _LOADED.append(args["model"])
    say({"id": number, "result": facts(args)})


def merge(number: int, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"merged")
    result = {"dtype": "bfloat16", "n_modules": 3, "lost_fraction": 0.125, "is_exact": False}
    say({"id": number, "result": {"folder": str(folder), **result}})


def facts(args: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": args["model"],
        "revision": "r",
        "dtype": args["dtype"],
        "n_parameters": 1,
        "versions": {},
    }


def behave(number: int, kind: int) -> None:
    text = ",".join(_LOADED)
    if kind == 0:
        say({"id": number, "result": {"token_ids": [1], "logprobs": [-1.0], "text": text}})
    elif kind == 1:
        sys.stderr.write("it burns\n")
        sys.stderr.flush()
        os._exit(7)
    elif kind == 2:
        time.sleep(600)
    elif kind == 3:
        say({"id": number + 1, "result": None})
    elif kind == 4:
        sys.stdout.write("nonsense\n")
        sys.stdout.flush()
    elif kind == 5:
        say({"id": number, "result": {"token_ids": "many"}})


if __name__ == "__main__":
    main()
