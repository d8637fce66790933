import io
import json

from adapters.errors import StrictLoadFailed
from adapters.parity.reference_process import device_of, serve


class Operations:
    """Answers without a model."""

    def load_base(self, model, dtype):
        return {"model": model, "dtype": dtype}

    def tokenize(self, prompts, limit):
        return [item.case_id for item in prompts] + [limit]

    def check_finite(self, adapter, prompts, on_progress):
        on_progress(len(prompts), 2)
        raise StrictLoadFailed(missing=["m"])

    def verify(self, adapter, items, against_base, on_progress):
        return [adapter, items[0].token_ids, against_base]

    def continue_from(self, adapter, items, on_progress):
        on_progress(1, 1)
        return [adapter, items[0].token_ids, items[0].n]

    def decode(self, token_ids):
        return [len(item) for item in token_ids]

    def merge(self, adapter, folder):
        return [adapter, folder]

    def generate(self, adapter, prompt_token_ids, n):
        raise ZeroDivisionError("inside")


class Closed(io.BytesIO):
    def write(self, _data):
        raise BrokenPipeError


def served(*requests, replies=None):
    lines = io.BytesIO(b"".join(json.dumps(item).encode() + b"\n" for item in requests))
    output = io.BytesIO() if replies is None else replies
    serve(Operations(), lines, output)
    return [json.loads(line) for line in output.getvalue().splitlines()]


def request(number, op, **args):
    return {"id": number, "op": op, "args": args}


def test_results_and_progress_carry_the_number_of_their_request():
    replies = served(
        request(1, "load_base", model="m", dtype="d"),
        request(2, "tokenize", prompts=[{"case_id": "a", "max_tokens": 3, "prompt": "x"}]),
        request(
            3,
            "verify",
            adapter=None,
            items=[{"case_id": "a", "prompt_token_ids": [1], "token_ids": [2]}],
            against_base=True,
        ),
    )

    assert [item["id"] for item in replies] == [1, 2, 3]
    assert [item["result"] for item in replies] == [
        {"model": "m", "dtype": "d"},
        ["a", None],
        [None, [2], True],
    ]


def test_continuations_decoding_and_merging_are_passed_on():
    item = {"case_id": "a", "token_ids": [1, 2], "n": 3}

    progress, continued, decoded, merged = served(
        request(1, "continue_from", adapter="f", items=[item]),
        request(2, "decode", token_ids=[[1], [2, 3]]),
        request(3, "merge", adapter="f", folder="g"),
    )

    assert progress["progress"] == {"done": 1, "total": 1}
    assert continued["result"] == ["f", [1, 2], 3]
    assert decoded["result"] == [1, 2]
    assert merged["result"] == ["f", "g"]


def test_a_device_is_taken_as_it_is_and_auto_takes_a_gpu_where_there_is_one(monkeypatch):
    import torch

    assert device_of("cpu") == "cpu"
    assert device_of("cuda") == "cuda"
    for has_gpu, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda has_gpu=has_gpu: has_gpu)
        assert device_of("auto") == device


def test_a_typed_error_keeps_its_code_and_fields():
    prompts = [{"case_id": "a", "token_ids": [1], "max_tokens": 3}]

    progress, error = served(request(4, "check_finite", adapter="f", prompts=prompts))

    assert progress == {"id": 4, "progress": {"done": 1, "total": 2}}
    assert error["error"]["code"] == "strict_load_failed"
    assert error["error"]["fields"]["missing"] == ["m"]


def test_anything_else_that_goes_wrong_is_told_and_the_next_request_is_served(capsys):
    first, second, third, fourth = served(
        request(5, "generate", adapter=None, prompt_token_ids=[1], n=1),
        request(6, "dance"),
        request(7, "verify", items=3),
        request(8, "load_base", model="m", dtype="d"),
    )

    assert "ZeroDivisionError: inside" in first["error"]["fields"]["reason"]
    assert "'dance'" in second["error"]["fields"]["reason"]
    assert third["error"]["code"] == "reference_failed"
    assert fourth["result"]["model"] == "m"
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_it_ends_when_nobody_reads_the_replies():
    assert served(request(1, "load_base", model="m", dtype="d"), replies=Closed()) == []
