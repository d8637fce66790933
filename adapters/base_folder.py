"""Where the served base model lies: a folder, or a hub id's place in the hub cache."""

from __future__ import annotations

from pathlib import Path

from adapters.errors import BaseModelError

_NEEDED = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
"""Config, weights (their headers say the shapes), tokenizer and chat template."""


def find_base_folder(model: str) -> Path:
    """The folder of `model`; a hub id is downloaded on first use (or found, with HF_HUB_OFFLINE).

    Raises:
        BaseModelError: neither a folder nor a hub id that can be had.
    """
    path = Path(model)
    if path.is_dir():
        return path
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as exc:
        reason = "no such folder; for a hub id install `loraplane[eval]`"
        raise BaseModelError(path=model, reason=reason) from exc
    try:
        return Path(snapshot_download(model, allow_patterns=_NEEDED))
    except (OSError, ValueError, HfHubHTTPError) as exc:
        reason = f"neither a folder nor a hub id that can be had: {exc}"
        raise BaseModelError(path=model, reason=reason[:500]) from exc
