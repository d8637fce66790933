"""Properties of names, digests, headers and configs over generated input."""

from __future__ import annotations

import json
import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.errors import ConfigInvalid, NameError_, TensorFileInvalid
from adapters.findings import Finding
from adapters.identity import parse_model_name, parse_version_id
from adapters.limits import EngineLimits
from adapters.manifest import (
    CONFIG_FILE,
    FINGERPRINT_FILE,
    TENSOR_FILE,
    ManifestFile,
    build_manifest,
    parse_manifest,
)
from adapters.patterns import pattern_problem
from adapters.peft_config import parse_lora_config, targets
from adapters.preflight import condense, preflight
from adapters.tensor_index import TensorEntry, TensorIndex, header_length, parse_header
from adapters.tensor_names import parse_lora_name
from bench.fixtures.adapter_files import lora_tensors, peft_config
from bench.fixtures.tensor_files import pack
from tests.builders.base_folders import TINY, card_of

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?", fullmatch=True)
HASHES = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=12,
)
LEGAL = json.dumps(
    {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "b": {"dtype": "BF16", "shape": [3], "data_offsets": [16, 22]},
    }
).encode()


@given(NAMES, NAMES, st.integers(1, 999_999_999))
def test_a_version_is_parsed_from_what_it_is_written_as(
    tenant: str, adapter: str, number: int
) -> None:
    text = f"{tenant}/{adapter}@{number}"
    try:
        version = parse_version_id(text)
    except NameError_:
        return
    assert str(version) == text
    assert parse_model_name(text).number == number


@given(st.text(max_size=200))
def test_any_text_is_a_name_or_a_typed_error(text: str) -> None:
    for parse in (parse_version_id, parse_model_name):
        try:
            parsed = parse(text)
        except NameError_:
            continue
        assert parsed.adapter in text


@given(st.tuples(HASHES, HASHES, HASHES), st.integers(0, 2**50), st.randoms())
def test_the_digest_does_not_depend_on_the_order_of_files(
    hashes: tuple[str, str, str], size: int, shuffler: random.Random
) -> None:
    names = (CONFIG_FILE, TENSOR_FILE, FINGERPRINT_FILE)
    files = [ManifestFile(name, size, hash_) for name, hash_ in zip(names, hashes, strict=True)]
    manifest = build_manifest(files)
    shuffler.shuffle(files)

    assert build_manifest(files).digest == manifest.digest
    assert parse_manifest(manifest.encode()) == manifest


@given(st.data())
@settings(max_examples=300)
def test_a_mutated_header_is_read_or_refused_by_type(data: st.DataObject) -> None:
    header = bytearray(LEGAL)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(header) - 1))
        kind = data.draw(st.sampled_from(["flip", "delete", "insert"]))
        if kind == "flip":
            header[at] = data.draw(st.integers(0, 255))
        elif kind == "delete" and len(header) > 1:
            del header[at]
        else:
            header.insert(at, data.draw(st.integers(0, 255)))
    size = 8 + len(header) + 22

    try:
        index = parse_header(bytes(header), size_bytes=size)
    except TensorFileInvalid:
        return
    places = sorted((entry.start, entry.end) for entry in index.tensors.values())
    assert all(8 + len(header) <= start <= end <= size for start, end in places)
    assert sum(end - start for start, end in places) == 22


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4), st.integers(0, 100))
def test_any_json_header_is_read_or_refused_by_type(header: dict[str, object], size: int) -> None:
    content = pack(header)

    try:
        index = parse_header(content[8:], size_bytes=len(content) + size)
    except TensorFileInvalid:
        return
    assert index.size_bytes == len(content) + size


@given(st.binary(max_size=12), st.integers(0, 2**40))
def test_a_header_is_never_longer_than_its_file(prefix: bytes, size: int) -> None:
    try:
        assert header_length(prefix, size_bytes=size) + 8 <= size
    except TensorFileInvalid:
        return


@given(st.text(max_size=60))
def test_a_lora_name_is_parsed_from_what_it_is_written_as(text: str) -> None:
    for name in (f"base_model.model.{text}.lora_A.weight", f"{text}.lora_B.weight"):
        parsed = parse_lora_name(name)
        assert parsed is None or str(parsed) == name


@given(st.dictionaries(st.sampled_from(sorted(peft_config())), JSON, max_size=6))
@settings(max_examples=200)
def test_any_config_is_read_or_refused_by_type(fields: dict[str, object]) -> None:
    try:
        spec = parse_lora_config(json.dumps(peft_config() | fields))
    except ConfigInvalid:
        return
    assert spec.rank >= 1
    assert spec.scaling_of("model.layers.0.self_attn.q_proj") > 0
    targets(spec, "model.layers.0.self_attn.q_proj")


@given(st.text(max_size=40))
def test_any_pattern_has_a_verdict(pattern: str) -> None:
    problem = pattern_problem(pattern)

    assert problem is None or problem


@given(st.lists(st.sampled_from(["module_unknown", "file_ignored", "module_inert"]), max_size=40))
def test_many_findings_of_one_code_end_in_a_count(codes: list[str]) -> None:
    found = condense(Finding(code, str(number)) for number, code in enumerate(codes))

    assert {finding.code for finding in found} == set(codes)
    assert len(found) <= 6 * len(set(codes))
    severities = [list(type(finding.severity)).index(finding.severity) for finding in found]
    assert severities == sorted(severities)


@given(
    st.dictionaries(
        st.sampled_from(sorted(lora_tensors(card_of(TINY)))),
        st.tuples(
            st.sampled_from(["F32", "BF16", "I8"]), st.lists(st.integers(0, 200), max_size=3)
        ),
        max_size=10,
    )
)
@settings(max_examples=200)
def test_preflight_blocks_any_index_but_the_right_one(
    drawn: dict[str, tuple[str, list[int]]],
) -> None:
    card = card_of(TINY)
    good = {
        name: TensorEntry(name, "F32", array.shape, 0, 0)
        for name, array in lora_tensors(card).items()
    }
    changed = good | {
        name: TensorEntry(name, dtype, tuple(shape), 0, 0) for name, (dtype, shape) in drawn.items()
    }
    is_same = all(
        changed[name].shape == good[name].shape and changed[name].dtype != "I8" for name in good
    )
    spec = parse_lora_config(json.dumps(peft_config(base=card.name)))

    findings = preflight(spec, TensorIndex(changed, {}, 0), card, EngineLimits())

    assert any(finding.is_blocking for finding in findings) is not is_same


def test_the_generated_good_index_is_good() -> None:
    assert all(array.dtype == np.float32 for array in lora_tensors(card_of(TINY)).values())
