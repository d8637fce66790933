"""The parity gate's measurements: training fingerprint, standalone reference, controls, verdict.

Importing this package loads neither torch nor PEFT; the two names for training code load them when
they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapters.parity.fingerprint import FingerprintCallback, record_fingerprint

__all__ = ["FingerprintCallback", "record_fingerprint"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from adapters.parity import fingerprint

        return getattr(fingerprint, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
