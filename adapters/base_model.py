"""BaseModelCard: what the gate must know of a base model, read from its folder without torch.

Module names and shapes come from the safetensors headers; the revision is a digest of samples of
every tensor, so that another fine-tune of the same shape is another revision, at no cost.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.base_shapes import linear_shapes
from adapters.errors import BaseModelError, TensorFileInvalid
from adapters.tensor_index import TensorEntry, read_tensor_index

DEFAULT_TARGET_MODULES = (
    "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
)  # fmt: skip
"""What the engine wraps by default. Not the output head: wrapped, prompt scoring is wrong."""

_SAMPLE_BYTES = 4096
# They say who wrote the folder, or how it is run, and not what the model computes.
_NOT_IDENTITY = frozenset(
    {"_name_or_path", "transformers_version", "use_cache", "dtype", "torch_dtype"}
)


@dataclass(frozen=True, slots=True)
class ModuleShape:
    """Sizes of one linear module: its weight is (out_features, in_features)."""

    in_features: int
    out_features: int


@dataclass(frozen=True, slots=True)
class BaseModelCard:
    """One base model. Hashes are bare hex; `modules` holds the linear modules by full name."""

    name: str
    architecture: str
    model_type: str
    n_layers: int
    hidden_size: int
    vocab_size: int
    dtype: str
    modules: Mapping[str, ModuleShape]
    revision: str
    tokenizer_hash: str | None = None
    chat_template_hash: str | None = None
    target_modules: tuple[str, ...] = DEFAULT_TARGET_MODULES

    def to_json(self) -> dict[str, Any]:
        """Without the modules, which are many; for reports and registry rows."""
        return {
            "name": self.name,
            "architecture": self.architecture,
            "model_type": self.model_type,
            "n_layers": self.n_layers,
            "hidden_size": self.hidden_size,
            "vocab_size": self.vocab_size,
            "dtype": self.dtype,
            "n_modules": len(self.modules),
            "revision": self.revision,
            "tokenizer_hash": self.tokenizer_hash,
            "chat_template_hash": self.chat_template_hash,
        }


def read_base_model(path: Path, *, name: str | None = None) -> BaseModelCard:
    """Read a Hugging Face model folder: config.json, safetensors headers, tokenizer files.

    `name` is the name that the card shall carry; by default the hub's name of a folder in a hub
    cache, or the folder's own.

    Raises:
        BaseModelError: a part is missing or cannot be read.
    """
    config = _load_json(path, "config.json")
    tensors = _read_tensors(path)
    modules = {
        module: ModuleShape(*sizes)
        for module, sizes in linear_shapes(
            {name_: (entry.dtype, entry.shape) for name_, (entry, _) in tensors.items()}, config
        ).items()
    }
    architectures = config.get("architectures") or ["unknown"]
    text_config = config.get("text_config", config)
    return BaseModelCard(
        name=name or _folder_name(path),
        architecture=str(architectures[0]),
        model_type=str(config.get("model_type", "unknown")),
        n_layers=_number(path, text_config, "num_hidden_layers"),
        hidden_size=_number(path, text_config, "hidden_size"),
        vocab_size=_number(path, text_config, "vocab_size"),
        dtype=_dtype(config, tensors),
        modules=modules,
        revision=_revision(config, tensors),
        tokenizer_hash=tokenizer_hash(path),
        chat_template_hash=chat_template_hash(path),
    )


def tokenizer_hash(folder: Path) -> str | None:
    """Hash of what the folder's tokenizer does to text; None when the folder has none."""
    try:
        raw = json.loads((folder / "tokenizer.json").read_bytes())
    except (OSError, ValueError):
        return _file_hash(folder / "tokenizer.model")
    if not isinstance(raw, dict):
        return None
    # How a trainer padded is no part of the vocabulary.
    return _json_hash({key: value for key, value in raw.items() if key not in _RUN_SETTINGS})


_RUN_SETTINGS = frozenset({"truncation", "padding", "version"})


def chat_template_hash(folder: Path) -> str | None:
    """Hash of the folder's chat template text; None when it has none."""
    try:
        text = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    except (OSError, ValueError):
        try:
            text = json.loads((folder / "tokenizer_config.json").read_bytes())["chat_template"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
    return hashlib.sha256(text.strip().encode()).hexdigest() if isinstance(text, str) else None


def _folder_name(path: Path) -> str:
    folder = path.resolve()
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/")
    return folder.name


_Tensors = dict[str, tuple[TensorEntry, Path]]


def _read_tensors(path: Path) -> _Tensors:
    if (path / "model.safetensors.index.json").is_file():
        weight_map = _load_json(path, "model.safetensors.index.json").get("weight_map")
        if not isinstance(weight_map, dict):
            raise BaseModelError(path=str(path), reason="the shard index has no weight_map")
        shards = sorted({str(shard) for shard in weight_map.values()})
    else:
        weight_map, shards = None, ["model.safetensors"]
    tensors: _Tensors = {}
    for shard in shards:
        if Path(shard).name != shard:
            raise BaseModelError(path=str(path), reason=f"shard {shard!r} is outside the folder")
        tensors.update(_read_shard(path / shard))
    if weight_map is not None and set(weight_map) - set(tensors):
        absent = min(set(weight_map) - set(tensors))
        raise BaseModelError(path=str(path), reason=f"{absent} is in the index and in no shard")
    return tensors


def _read_shard(file: Path) -> _Tensors:
    try:
        index = read_tensor_index(file)
    except (OSError, TensorFileInvalid) as exc:
        raise BaseModelError(path=str(file), reason=str(exc)) from exc
    return {entry.name: (entry, file) for entry in index.tensors.values()}


def _revision(config: Mapping[str, Any], tensors: _Tensors) -> str:
    identity = {key: value for key, value in config.items() if key not in _NOT_IDENTITY}
    total = hashlib.sha256(_json_hash(identity).encode())
    opened = {file: file.open("rb") for file in {file for _, file in tensors.values()}}
    try:
        for name in sorted(tensors):
            entry, file = tensors[name]
            total.update(f"{name} {entry.dtype} {list(entry.shape)}\n".encode())
            middle = max(entry.start, entry.start + entry.size_bytes // 2 - _SAMPLE_BYTES // 2)
            for start in (entry.start, middle, max(entry.start, entry.end - _SAMPLE_BYTES)):
                opened[file].seek(start)
                total.update(opened[file].read(min(_SAMPLE_BYTES, entry.end - start)))
    finally:
        for stream in opened.values():
            stream.close()
    return total.hexdigest()


def _dtype(config: Mapping[str, Any], tensors: _Tensors) -> str:
    stated = config.get("dtype") or config.get("torch_dtype")
    if isinstance(stated, str):
        return stated.removeprefix("torch.")
    names = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
    found = [names[entry.dtype] for entry, _ in tensors.values() if entry.dtype in names]
    return max(set(found), key=found.count) if found else "unknown"


def _number(path: Path, config: Any, key: str) -> int:
    value = config.get(key) if isinstance(config, dict) else None
    if type(value) is not int or value < 1:
        raise BaseModelError(path=str(path), reason=f"config.json has no usable {key}")
    return value


def _load_json(path: Path, name: str) -> dict[str, Any]:
    try:
        raw = json.loads((path / name).read_bytes())
    except (OSError, ValueError) as exc:
        raise BaseModelError(path=str(path), reason=f"{name}: {exc}") from exc
    if not isinstance(raw, dict):
        raise BaseModelError(path=str(path), reason=f"{name} is no JSON object")
    return raw


def _file_hash(file: Path) -> str | None:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return None


def _json_hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
