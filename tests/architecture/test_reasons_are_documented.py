"""Every reason that a verdict can give is explained in docs/parity.md."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("docs/parity.md", "docs/judges.md")
GIVERS = ("Reason", "CandidateRefused")
CODED_ELSEWHERE = "export_"
"""Codes of the fingerprint's check are a family of their own, told in docs/fingerprint.md."""


def given_codes() -> set[str]:
    found = set()
    for folder in ("adapters/parity", "serving/controller"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                    continue
                first = node.args[0] if node.args else None
                if node.func.id in GIVERS and isinstance(first, ast.Constant):
                    found.add(str(first.value))
    return found


def test_every_reason_is_explained() -> None:
    pages = [ROOT / name for name in PAGES if (ROOT / name).exists()]
    text = "\n".join(page.read_text() for page in pages)
    known = {"parity", *(code for code in given_codes() if code.startswith(CODED_ELSEWHERE))}

    codes = given_codes()

    assert len(codes) > 20
    assert {code for code in codes - known if f"`{code}`" not in text} == set()
