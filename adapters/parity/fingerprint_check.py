"""Training fingerprint against the files, module by module. Pure.

Each way in which an export goes wrong leaves its own trace in hashes and scalings; the rules here
name it, because "hash differs" tells nobody what to repair.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence

from adapters.parity.export_evidence import ExportFinding
from adapters.parity.fingerprint_file import Fingerprint, ModulePrint
from adapters.parity.protocol import ModuleFacts

_LAYER = re.compile(r"(?P<head>.*?\.)(?P<layer>\d+)(?P<tail>\..*)")
_SAME = 1e-6
"""Scalings are quotients of small numbers; relative difference that is rounding."""


def check_fingerprint(
    fingerprint: Fingerprint,
    facts: Sequence[ModuleFacts],
    *,
    base_revision: str | None = None,
) -> list[ExportFinding]:
    """Every difference between the trained modules and the files' modules, by name.

    `facts` come from `fingerprint_file.read_module_facts` (at upload, without torch) or from the
    strictly loaded adapter. `base_revision` of the served base is compared when both are known.
    """
    uploaded = {item.module: item for item in facts}
    common = [name for name in fingerprint.modules if name in uploaded]
    moved = _moves(fingerprint.modules, uploaded)
    findings = list(_base_differs(fingerprint, base_revision))
    findings += _moved(moved)
    findings += _modules_differ(fingerprint.modules, uploaded, moved)
    findings += _ranks_differ(fingerprint.modules, uploaded, common)
    findings += _scalings_differ(fingerprint, uploaded, common)
    findings += _tensors_differ(
        fingerprint.modules, uploaded, [n for n in common if n not in moved]
    )
    return findings


def _base_differs(fingerprint: Fingerprint, revision: str | None) -> Iterator[ExportFinding]:
    trained = fingerprint.base.revision
    if revision and trained and revision != trained:
        text = "the adapter was trained on a base with other weights than the served one"
        yield ExportFinding("export_base_differs", fingerprint.base.name, revision, trained, text)


def _moves(
    trained: Mapping[str, ModulePrint], uploaded: Mapping[str, ModuleFacts]
) -> dict[str, str]:
    """Uploaded module -> the module as which its values were trained, where that is another one.

    A name that was never trained counts only where another layer explains it: all modules under
    another prefix have not moved, they have lost their names.
    """
    home: dict[tuple[str, str], str] = {}
    for name, module in trained.items():
        home.setdefault(_trained_pair(module), name)
    moves = {}
    for name, found in uploaded.items():
        origin = home.get(_pair(found))
        if origin is None:
            continue
        if name not in trained:
            is_moved = _layer_shift(name, origin) is not None
        else:
            is_moved = _pair(found) != _trained_pair(trained[name])
        if is_moved:
            moves[name] = origin
    return moves


def _modules_differ(
    trained: Mapping[str, ModulePrint],
    uploaded: Mapping[str, ModuleFacts],
    moved: Mapping[str, str],
) -> Iterator[ExportFinding]:
    lost = sorted(set(trained) - set(uploaded) - set(moved.values()))
    added = sorted(set(uploaded) - set(trained) - set(moved))
    if lost:
        text = f"{len(lost)} of {len(trained)} trained modules are not in the files"
        yield ExportFinding("export_modules_lost", lost[0], len(uploaded), len(trained), text)
    if added:
        text = f"{len(added)} modules in the files were not trained under this name"
        yield ExportFinding("export_modules_added", added[0], len(uploaded), len(trained), text)


def _ranks_differ(
    trained: Mapping[str, ModulePrint], uploaded: Mapping[str, ModuleFacts], common: Sequence[str]
) -> Iterator[ExportFinding]:
    for name in common:
        was, found = trained[name], uploaded[name]
        if (was.a.shape, was.b.shape) != (found.a_shape, found.b_shape):
            rank = found.a_shape[0] if found.a_shape else None
            text = f"{name} was trained with rank {was.rank}, the file has rank {rank}"
            if rank == was.rank:
                text = f"{name} was trained with other shapes than the file has"
            yield ExportFinding(
                "export_shape_differs",
                name,
                [list(found.a_shape), list(found.b_shape)],
                [list(was.a.shape), list(was.b.shape)],
                text,
            )
            return  # one example names the mistake


def _scalings_differ(
    fingerprint: Fingerprint, uploaded: Mapping[str, ModuleFacts], common: Sequence[str]
) -> Iterator[ExportFinding]:
    trained = fingerprint.modules
    changed = [n for n in common if not _is_close(uploaded[n].scaling, trained[n].scaling)]
    if not changed:
        return
    name = changed[0]
    found, was = uploaded[name].scaling, trained[name].scaling
    code, why = "export_alpha_changed", "lora_alpha was changed after training"
    roots = [
        _is_close(trained[n].scaling, uploaded[n].scaling * _root(trained[n])) for n in changed
    ]
    squares = [
        _is_close(uploaded[n].scaling, trained[n].scaling * _root(trained[n])) for n in changed
    ]
    is_flagged = uploaded[name].use_rslora
    if all(roots) and fingerprint.use_rslora and not is_flagged:
        code, why = "export_rslora_lost", "the use_rslora flag was lost after training"
    elif all(squares) and is_flagged and not fingerprint.use_rslora:
        code, why = "export_rslora_added", "use_rslora was switched on after training"
    elif any(not _is_close(uploaded[n].scaling / found, trained[n].scaling / was) for n in changed):
        code, why = "export_scaling_differs", "the modules' scalings were changed after training"
    text = f"{why}: {name} is scaled by {found:g}, it was trained with {was:g}"
    yield ExportFinding(code, name, found, was, text)


def _is_close(first: float, second: float) -> bool:
    return math.isclose(first, second, rel_tol=_SAME)


def _root(module: ModulePrint) -> float:
    return math.sqrt(module.rank)


def _tensors_differ(
    trained: Mapping[str, ModulePrint], uploaded: Mapping[str, ModuleFacts], common: Sequence[str]
) -> Iterator[ExportFinding]:
    changed = [name for name in common if _pair(uploaded[name]) != _trained_pair(trained[name])]
    flipped = [n for n in changed if uploaded[n].b_sha256 == trained[n].b.negated_sha256]
    if flipped:
        text = f"lora_B of {flipped[0]} has the opposite sign ({len(flipped)} modules)"
        yield ExportFinding("export_b_negated", flipped[0], len(flipped), 0, text)
    others = [name for name in changed if name not in flipped]
    if others:
        text = f"{others[0]} holds other values than were trained ({len(others)} modules)"
        yield ExportFinding("export_values_changed", others[0], len(others), 0, text)


def _moved(moved: Mapping[str, str]) -> Iterator[ExportFinding]:
    if not moved:
        return
    name, source = next(iter(moved.items()))
    shifts = {_layer_shift(target, origin) for target, origin in moved.items()}
    if len(shifts) == 1 and shifts != {None} and len(moved) > 1 and not _is_exchange(moved):
        text = f"layers are shifted: {name} holds what was trained as {source}"
        yield ExportFinding("export_layers_shifted", name, source, name, text)
        return
    text = f"modules are exchanged: {name} holds what was trained as {source} ({len(moved)} moved)"
    yield ExportFinding("export_modules_exchanged", name, source, name, text)


def _is_exchange(moved: Mapping[str, str]) -> bool:
    return all(moved.get(source) == target for target, source in moved.items())


def _layer_shift(target: str, origin: str) -> int | None:
    """Layers between two places of the same module, None for different modules."""
    first, second = _LAYER.fullmatch(target), _LAYER.fullmatch(origin)
    if not first or not second or first["tail"] != second["tail"]:
        return None
    return int(first["layer"]) - int(second["layer"]) or None


def _pair(module: ModuleFacts) -> tuple[str, str]:
    return module.a_sha256, module.b_sha256


def _trained_pair(module: ModulePrint) -> tuple[str, str]:
    return module.a.sha256, module.b.sha256
