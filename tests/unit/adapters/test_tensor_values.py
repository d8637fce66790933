"""The streaming look at values, for every number type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adapters.errors import TensorFileInvalid
from adapters.tensor_index import read_tensor_index
from adapters.tensor_values import ENGINE_NUMBERS, TensorStats, decode_values, scan_values
from bench.fixtures.tensor_files import Array, to_bfloat16, write_tensors


def scan(tmp_path: Path, **tensors: Array) -> dict[str, TensorStats]:
    path = write_tensors(tmp_path / "file", tensors)
    return scan_values(path, read_tensor_index(path))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_the_largest_magnitude_is_found(dtype: str, tmp_path: Path) -> None:
    values = np.array([[0.5, -3.0], [1.0, 2.0]], dtype=dtype)

    assert scan(tmp_path, x=values) == {"x": TensorStats(3.0, 0)}


def test_bfloat16_is_read_by_hand(tmp_path: Path) -> None:
    values = to_bfloat16(np.array([0.0, -2.5, np.inf, np.nan], np.float32))

    assert scan(tmp_path, x=values) == {"x": TensorStats(2.5, 2)}


def test_every_bfloat16_is_decoded_to_its_value() -> None:
    words = np.arange(2**16, dtype="<u2")

    values = decode_values(words.tobytes(), "BF16")

    assert np.array_equal(values.view(np.uint32) >> 16, words)


def test_values_that_are_not_finite_are_counted_and_left_out(tmp_path: Path) -> None:
    values = np.array([np.nan, np.inf, -np.inf, 1.0], np.float32)

    assert scan(tmp_path, x=values)["x"] == TensorStats(1.0, 3)


def test_a_bad_value_in_a_later_piece_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.tensor_values.CHUNK_BYTES", 16)
    values = np.zeros(100, np.float32)
    values[97] = np.nan

    assert scan(tmp_path, x=values)["x"].n_not_finite == 1


def test_zero_is_told_from_small(tmp_path: Path) -> None:
    stats = scan(tmp_path, z=np.zeros(4, np.float32), s=np.full(4, 1e-40, np.float32))

    assert stats["z"].is_zero
    assert not stats["s"].is_zero


def test_no_values_have_no_magnitude(tmp_path: Path) -> None:
    assert scan(tmp_path, x=np.zeros((0, 4), np.float32))["x"] == TensorStats(0.0, 0)


def test_other_number_types_are_left_out(tmp_path: Path) -> None:
    assert scan(tmp_path, x=np.zeros(4, np.int32)) == {}


def test_a_file_that_shrank_after_its_header_was_read_is_refused(tmp_path: Path) -> None:
    path = write_tensors(tmp_path / "file", {"x": np.zeros(100, np.float32)})
    index = read_tensor_index(path)
    path.write_bytes(path.read_bytes()[:-30])

    with pytest.raises(TensorFileInvalid):
        scan_values(path, index)


@pytest.mark.parametrize(("name", "dtype"), [("float16", np.float16), ("float32", np.float32)])
def test_the_engines_limits_are_where_numpy_rounds(name: str, dtype: type) -> None:
    numbers = ENGINE_NUMBERS[name]
    just_below = np.nextafter(numbers.overflow_at, 0)

    with np.errstate(over="ignore"):
        assert np.isfinite(np.float64(just_below).astype(dtype))
        assert np.isinf(np.float64(numbers.overflow_at).astype(dtype))
    assert np.float64(numbers.zero_at).astype(dtype) == 0
    assert np.nextafter(numbers.zero_at, 1).astype(dtype) > 0


def test_the_limits_of_bfloat16_are_those_of_torch() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed (extra `eval`)")
    numbers = ENGINE_NUMBERS["bfloat16"]

    def cast(value: float) -> float:
        return float(torch.tensor(value, dtype=torch.float64).to(torch.bfloat16))

    assert cast(numbers.overflow_at) == np.inf
    assert np.isfinite(cast(numbers.overflow_at * (1 - 1e-6)))
    assert cast(numbers.zero_at) == 0
    assert cast(numbers.zero_at * (1 + 1e-3)) > 0
