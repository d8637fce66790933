"""loraplane_fingerprint.json: its form, and reading it. Torch-free; `fingerprint` writes it.

Hashes are sha256 over a tensor's bytes as they stand in adapter_model.safetensors (little-endian,
row by row, in the dtype of saving), so an uploaded file is checked without loading a tensor.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from adapters.errors import FingerprintInvalid, TensorFileInvalid
from adapters.parity.export_evidence import RecordedAnswer
from adapters.parity.protocol import ModuleFacts
from adapters.peft_config import LoraSpec

FILE_NAME = "loraplane_fingerprint.json"
FORMAT = 1
MAX_BYTES = 32 * 1024**2
"""Arbitrary; 2,000 modules and a hundred answers take about one megabyte."""
_MAX_HEADER_BYTES = 100 * 1024**2  # the format's own limit
_MAX_ANSWERS = 64
_TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")


class TensorPrint(msgspec.Struct, frozen=True):
    """One tensor at the end of training, as save_pretrained writes it."""

    shape: tuple[int, ...]
    dtype: str
    sha256: str
    negated_sha256: str | None = None
    """Hash of the same tensor with its sign flipped, so that this mistake can be named."""


class ModulePrint(msgspec.Struct, frozen=True):
    """One adapted module of the live model; `scaling` is the factor that PEFT really applied."""

    scaling: float
    a: TensorPrint
    b: TensorPrint

    @property
    def rank(self) -> int:
        """Rows of A."""
        return self.a.shape[0]


class BasePrint(msgspec.Struct, frozen=True):
    """The base as it was trained on; `revision` hashes sampled weights (None: it was quantized)."""

    name: str | None
    revision: str | None
    dtype: str
    quantization: str | None = None


class RecordedTokens(msgspec.Struct, frozen=True):
    """One greedy answer as it stands in the file."""

    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    base_logprobs: tuple[float, ...] = ()
    """Of the same tokens without the adapter; empty in fingerprints of earlier versions."""


class Fingerprint(msgspec.Struct, frozen=True):
    """What the end of training says about itself."""

    base: BasePrint
    modules: dict[str, ModulePrint]
    answers: list[RecordedTokens] = []
    use_rslora: bool = False
    versions: dict[str, str] = {}
    format: int = FORMAT

    @property
    def recorded_answers(self) -> list[RecordedAnswer]:
        """The answers, for `export_evidence.judge_answers`."""
        return [
            RecordedAnswer(a.prompt_token_ids, a.token_ids, a.logprobs, a.base_logprobs)
            for a in self.answers
        ]


class TensorPlace(NamedTuple):
    """Which module and which side (`A` or `B`) a tensor of an adapter file belongs to."""

    module: str
    side: str


def parse_tensor_name(name: str) -> TensorPlace | None:
    """`base_model.model.<module>.lora_A.weight` -> place; None for any other name."""
    match = _TENSOR.fullmatch(name)
    return TensorPlace(match["module"], match["side"]) if match else None


def parse_fingerprint(data: bytes) -> Fingerprint:
    """Read a fingerprint file.

    Raises:
        FingerprintInvalid: too large, not JSON of this form, a newer format, or lists of other
            lengths.
    """
    if len(data) > MAX_BYTES:
        raise FingerprintInvalid(field="", problem=f"larger than {MAX_BYTES} bytes")
    try:
        fingerprint = msgspec.json.decode(data, type=Fingerprint)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        # msgspec names the place after " - at `$.path`"; the whole sentence stays the problem.
        _, _, where = str(exc).partition(" - at ")
        raise FingerprintInvalid(field=where.strip("`"), problem=str(exc)) from exc
    _check(fingerprint)
    return fingerprint


def _check(fingerprint: Fingerprint) -> None:
    if fingerprint.format > FORMAT:
        problem = f"{fingerprint.format} is newer than {FORMAT}"
        raise FingerprintInvalid(field="format", problem=problem)
    if not fingerprint.modules:
        raise FingerprintInvalid(field="modules", problem="empty")
    for name, module in fingerprint.modules.items():
        if len(module.a.shape) != 2 or len(module.b.shape) != 2:
            raise FingerprintInvalid(field=f"modules.{name}", problem="A and B must be matrices")
    if len(fingerprint.answers) > _MAX_ANSWERS:
        raise FingerprintInvalid(field="answers", problem=f"more than {_MAX_ANSWERS}")
    for index, answer in enumerate(fingerprint.answers):
        if not answer.prompt_token_ids:
            raise FingerprintInvalid(field=f"answers[{index}]", problem="no prompt")
        if len(answer.token_ids) != len(answer.logprobs):
            problem = "token_ids and logprobs have other lengths"
            raise FingerprintInvalid(field=f"answers[{index}]", problem=problem)
        if answer.base_logprobs and len(answer.base_logprobs) != len(answer.token_ids):
            problem = "token_ids and base_logprobs have other lengths"
            raise FingerprintInvalid(field=f"answers[{index}]", problem=problem)


def read_module_facts(spec: LoraSpec, tensor_file: Path) -> tuple[ModuleFacts, ...]:
    """Modules of an uploaded file: shapes and hashes from the bytes, scalings from the config.

    Tensors that are not `base_model.model.<module>.lora_A|B.weight` are left out: preflight names
    them. A module with only one side is left out too, so it shows as lost.

    Raises:
        TensorFileInvalid: not a well-formed safetensors file.
    """
    sides: dict[str, dict[str, tuple[tuple[int, ...], str]]] = {}
    for name, shape, digest in _hash_tensors(tensor_file):
        place = parse_tensor_name(name)
        if place is not None:
            sides.setdefault(place.module, {})[place.side] = (shape, digest)
    return tuple(
        ModuleFacts(
            module=module,
            scaling=spec.scaling_of(module),
            a_shape=pair["A"][0],
            b_shape=pair["B"][0],
            a_sha256=pair["A"][1],
            b_sha256=pair["B"][1],
            use_rslora=spec.use_rslora,
        )
        for module, pair in sorted(sides.items())
        if len(pair) == 2
    )


def _hash_tensors(tensor_file: Path) -> Iterator[tuple[str, tuple[int, ...], str]]:
    size = tensor_file.stat().st_size
    with tensor_file.open("rb") as file:
        start, header = _read_header(file, size=size)
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            try:
                begin, end = (int(value) for value in entry["data_offsets"])
                shape = tuple(int(value) for value in entry["shape"])
            except (KeyError, TypeError, ValueError) as exc:
                raise TensorFileInvalid(reason="entry_malformed", tensor=name) from exc
            if not 0 <= begin <= end <= size - start:
                raise TensorFileInvalid(reason="offsets_outside", tensor=name)
            file.seek(start + begin)
            yield name, shape, _hash_range(file, end - begin)


def _read_header(file: BinaryIO, *, size: int) -> tuple[int, dict[str, Any]]:
    n_header = int.from_bytes(file.read(8), "little")
    if size < 8 or n_header > min(size - 8, _MAX_HEADER_BYTES):
        raise TensorFileInvalid(reason="header_length", found=n_header)
    try:
        header = json.loads(file.read(n_header))
    except (ValueError, RecursionError) as exc:
        raise TensorFileInvalid(reason="header_not_json") from exc
    if not isinstance(header, dict):
        raise TensorFileInvalid(reason="header_not_json")
    return 8 + n_header, header


def _hash_range(file: BinaryIO, n_bytes: int) -> str:
    digest = hashlib.sha256()
    while n_bytes:
        chunk = file.read(min(n_bytes, 1 << 20))
        if not chunk:
            raise TensorFileInvalid(reason="truncated")
        digest.update(chunk)
        n_bytes -= len(chunk)
    return digest.hexdigest()
