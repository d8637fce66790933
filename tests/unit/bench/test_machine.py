"""A machine file is read strictly, and says what it changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.machine import Machine, MachineInvalid, parse_machine, read_machine

CPU = Machine("cpu", "tiny", {"gpu_slots": 8}, (1, 2), 8, 16, 32)


def test_a_file_changes_what_it_names_and_its_name_is_the_variant(tmp_path: Path) -> None:
    path = tmp_path / "card-80gb.yaml"
    path.write_text("base: /models/big\nadapters: [1, 40]\ntokens: {output: 128}\n")

    machine = read_machine(path, CPU)

    assert (machine.base, machine.adapters, machine.variant) == (
        "/models/big",
        (1, 40),
        "card_80gb",
    )
    assert (machine.n_prompt, machine.n_output, machine.concurrency) == (16, 128, 8)
    assert machine.profile == CPU.profile


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"adaptors": 3}, "adaptors"),
        ({"adapters": []}, "adapters"),
        ({"adapters": [0]}, "adapters"),
        ({"concurrency": True}, "concurrency"),
        ({"tokens": {"promt": 3}}, "tokens"),
        ({"profile": {"model": "x"}}, "profile"),
        ({"base": ""}, "base"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(values: dict[str, object], named: str) -> None:
    with pytest.raises(MachineInvalid, match=named):
        parse_machine(values, CPU)


def test_a_file_that_is_missing_or_no_mapping_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- 1\n")

    for name in ("list.yaml", "missing.yaml"):
        with pytest.raises(MachineInvalid, match=name):
            read_machine(tmp_path / name, CPU)


def test_a_profile_with_an_unknown_field_is_refused_before_an_engine_starts() -> None:
    machine = parse_machine({"base": "/models/big", "profile": {"gpu_slot": 8}}, CPU)

    with pytest.raises(MachineInvalid, match="gpu_slot"):
        machine.engine_profile()
