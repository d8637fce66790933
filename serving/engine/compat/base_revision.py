"""Which base model this engine serves, by its content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import structlog

from adapters.base_model import read_base_model
from adapters.errors import BaseModelError
from serving.engine.ports import UNKNOWN_BASE

_log = structlog.get_logger(__name__)


def base_revision(model_config: Any) -> str:
    """`BaseModelCard.revision` of vLLM's model; `UNKNOWN_BASE` where its folder cannot be read.

    Reads the config, the safetensors headers and a few samples of each tensor: a second or two.
    """
    try:
        return read_base_model(_folder(model_config)).revision
    except (BaseModelError, OSError, ValueError) as exc:
        _log.warning("the base model's revision is unknown", reason=str(exc))
        return UNKNOWN_BASE


def _folder(model_config: Any) -> Path:
    path = Path(model_config.model)
    if path.is_dir():
        return path
    from huggingface_hub import snapshot_download

    # vLLM has loaded it already, so it is in the cache.
    found = snapshot_download(
        model_config.model, revision=model_config.revision, local_files_only=True
    )
    return Path(found)
