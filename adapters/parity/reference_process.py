"""The standalone model's own process: JSON lines in on stdin, JSON lines out on stdout.

    python -m adapters.parity.reference_process [--threads N] [--device auto|cpu|cuda]

It ends when its input ends, so it cannot outlive the process that started it for long. Whatever a
library prints goes to stderr: stdout carries the protocol alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from adapters.errors import AdapterError, ReferenceFailed
from adapters.parity.protocol import (
    ContinueItem,
    Failure,
    Progress,
    Reply,
    Request,
    SuitePrompt,
    TokenizedPrompt,
    VerifyItem,
)

if TYPE_CHECKING:
    from adapters.parity.reference import Reference

Emit = Callable[[Reply], None]


def answer(operations: Reference, request: Request, emit: Emit) -> None:
    """Do one request: emit its progress and one reply. Errors of the request become its reply."""
    try:
        result = _run(operations, request, emit)
    except AdapterError as exc:
        emit(Reply(request.id, error=Failure(exc.code, exc.fields)))
    except Exception as exc:  # noqa: BLE001 - the edge: the caller must hear of everything
        traceback.print_exc(file=sys.stderr)
        failure = ReferenceFailed(reason=f"{request.op}: {type(exc).__name__}: {exc}")
        emit(Reply(request.id, error=Failure(failure.code, failure.fields)))
    else:
        emit(Reply(request.id, result=msgspec.to_builtins(result)))


def _run(operations: Reference, request: Request, emit: Emit) -> Any:
    args = request.args

    def on_progress(done: int, total: int) -> None:
        emit(Reply(request.id, progress=Progress(done, total)))

    match request.op:
        case "load_base":
            return operations.load_base(args["model"], args["dtype"])
        case "tokenize":
            prompts = msgspec.convert(args["prompts"], list[SuitePrompt])
            return operations.tokenize(prompts, args.get("max_model_len"))
        case "check_finite":
            read = msgspec.convert(args["prompts"], list[TokenizedPrompt])
            return operations.check_finite(args["adapter"], read, on_progress)
        case "verify":
            items = msgspec.convert(args["items"], list[VerifyItem])
            against_base = bool(args.get("against_base"))
            return operations.verify(args["adapter"], items, against_base, on_progress)
        case "generate":
            return operations.generate(args["adapter"], args["prompt_token_ids"], args["n"])
        case "continue_from":
            starts = msgspec.convert(args["items"], list[ContinueItem])
            return operations.continue_from(args["adapter"], starts, on_progress)
        case "decode":
            return operations.decode(args["token_ids"])
        case "merge":
            return operations.merge(args["adapter"], args["folder"])
        case _:
            raise ReferenceFailed(reason=f"unknown operation {request.op!r}")


def serve(operations: Reference, requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer requests until the input ends or nobody reads the replies any more."""

    def emit(reply: Reply) -> None:
        replies.write(msgspec.json.encode(reply) + b"\n")
        replies.flush()

    try:
        for line in requests:
            answer(operations, msgspec.json.decode(line, type=Request), emit)
    except BrokenPipeError:
        return


def device_of(wanted: str) -> str:
    """The torch device for `auto` (a GPU where there is one), `cpu` or `cuda`."""
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted


def main(argv: Sequence[str] | None = None) -> None:
    """Run the process."""
    parser = argparse.ArgumentParser(description="Standalone reference of the parity gate.")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: all cores")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options = parser.parse_args(argv)
    # Before the heavy imports: they, too, may print.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    # Threads that wait by spinning would take the cores from an engine on the same machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    import torch
    from transformers.utils import logging

    from adapters.parity.reference import Reference

    logging.disable_progress_bar()
    if options.threads > 0:
        torch.set_num_threads(options.threads)
    # "highest": no TF32 on a GPU. It keeps 10 bits of a float32's 23, so float32 would resolve no
    # more than float16 does, and the gate's float32 thresholds would measure the hardware.
    torch.set_float32_matmul_precision("highest")
    serve(Reference(device=device_of(options.device)), sys.stdin.buffer, replies)


if __name__ == "__main__":
    main()
