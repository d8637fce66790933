"""What a scenario runs on: base, engine profile and sizes, as one YAML file per kind of machine.

Scenarios have the two-core CPU machine built in; `--machine FILE` names another one, such as a card
with 80 GB (bench/gpu). Strict: an unknown or impossible value is an error that names what would be
right. Fields of a file: `name`, `base` (tiny, smol, a folder or a hub id), `profile` (fields of an
engine profile without `model`), `adapters` (the numbers of distinct adapters to measure),
`concurrency` (requests in flight), `tokens` (`prompt`, `output`), `ranks` (of the adapters; first
the one that a scenario uses where it needs only one).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from serving.engine.profile import EngineProfile, ProfileInvalid, parse_profile

_FIELDS = ("name", "base", "profile", "adapters", "concurrency", "tokens", "ranks")
_BUILT_IN_BASES = ("tiny", "smol")


class MachineInvalid(ValueError):
    """A machine file that cannot be used; the text names the field and what it should be."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine's choices for one scenario; `adapters` and `ranks` are positive and not empty."""

    name: str
    base: str
    profile: Mapping[str, Any]
    adapters: tuple[int, ...]
    concurrency: int
    n_prompt: int
    n_output: int
    ranks: tuple[int, ...] = (16,)
    variant: str = field(default="")
    """What sets its result file apart from the CPU's; empty for the machine that is built in."""

    def engine_profile(self, **changes: Any) -> EngineProfile:
        """The profile with its base as `model`; `changes` win. Builds a built-in base if need be.

        Raises:
            MachineInvalid: the profile has a value that cannot be used.
        """
        try:
            return parse_profile({"model": str(self.model()), **self.profile, **changes})
        except ProfileInvalid as exc:
            raise MachineInvalid(f"{self.name}: {exc}") from exc

    def model(self) -> str:
        """Folder or hub id of the base."""
        from bench.fixtures.base_model import smol_base, tiny_base

        built_in = {"tiny": tiny_base, "smol": smol_base}
        return str(built_in[self.base]()) if self.base in _BUILT_IN_BASES else self.base


def add_machine_option(parser: argparse.ArgumentParser) -> None:
    """`--machine FILE` for a scenario's command line."""
    parser.add_argument(
        "--machine",
        type=Path,
        help="YAML file with base, profile and sizes of another machine; see bench/gpu",
    )


def machine_of(options: argparse.Namespace, default: Machine) -> Machine:
    """The machine that the options name, or the built-in one.

    Raises:
        MachineInvalid: the file cannot be read, or a value of it cannot be used.
    """
    return default if options.machine is None else read_machine(options.machine, default)


def read_machine(path: Path, default: Machine) -> Machine:
    """A machine from a file; what the file leaves out is as in `default`, but for the profile.

    The file's name without its ending is the variant of the results.

    Raises:
        MachineInvalid: the file cannot be read, or a value of it cannot be used.
    """
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as exc:
        raise MachineInvalid(f"{path}: {exc}") from exc
    if not isinstance(loaded, dict):
        raise MachineInvalid(f"{path}: not a mapping of {', '.join(_FIELDS)}")
    machine = parse_machine(loaded, default)
    return replace(machine, variant=path.stem.replace("-", "_"))


def parse_machine(values: Mapping[str, Any], default: Machine) -> Machine:
    """Check names, types and ranges; see the module for the fields.

    Raises:
        MachineInvalid: an unknown field, or a value that cannot be used.
    """
    if unknown := [str(name) for name in values if name not in _FIELDS]:
        raise MachineInvalid(f"unknown fields {unknown}; there are {', '.join(_FIELDS)}")
    tokens = values.get("tokens", {})
    if not isinstance(tokens, Mapping) or set(tokens) - {"prompt", "output"}:
        raise MachineInvalid(f"tokens: {tokens!r} is not a mapping of prompt and output")
    profile = values.get("profile", default.profile)
    if not isinstance(profile, Mapping) or "model" in profile:
        raise MachineInvalid("profile: give a mapping of an engine's fields; `base` is the model")
    return Machine(
        name=_text("name", values.get("name", default.name)),
        base=_text("base", values.get("base", default.base)),
        profile=dict(profile),
        adapters=_counts("adapters", values.get("adapters", default.adapters)),
        concurrency=_count("concurrency", values.get("concurrency", default.concurrency)),
        n_prompt=_count("tokens.prompt", tokens.get("prompt", default.n_prompt)),
        n_output=_count("tokens.output", tokens.get("output", default.n_output)),
        ranks=_counts("ranks", values.get("ranks", default.ranks)),
    )


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise MachineInvalid(f"{name}: {value!r} is not a text")
    return value


def _count(name: str, value: Any) -> int:
    if type(value) is not int or value < 1:  # Not isinstance: True is no count.
        raise MachineInvalid(f"{name}: {value!r} is not a positive integer")
    return value


def _counts(name: str, value: Any) -> tuple[int, ...]:
    values = [value] if type(value) is int else value
    if not isinstance(values, list | tuple) or not values:
        raise MachineInvalid(f"{name}: {value!r} is not a positive integer or a list of them")
    return tuple(_count(name, each) for each in values)
