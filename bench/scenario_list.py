"""Which scenarios there are, read from their sources: importing one may load torch."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

SCENARIOS = Path(__file__).resolve().parent / "scenarios"


@dataclass(frozen=True, slots=True)
class Listed:
    """A module that is a program; `has_quick` where it has the option `--quick`."""

    name: str
    question: str
    has_quick: bool

    @property
    def command(self) -> str:
        """How it is run."""
        return f"python -m bench.scenarios.{self.name}"


def list_scenarios(folder: Path = SCENARIOS) -> list[Listed]:
    """In the order of their names; a module without a `main` is a part of another one."""
    found = []
    for path in sorted(folder.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        is_program = any(
            isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body
        )
        if is_program and not path.name.startswith("_"):
            first = (ast.get_docstring(tree) or "").partition("\n")[0]
            found.append(Listed(path.stem, first, _has_option(tree, "--quick")))
    return found


def _has_option(tree: ast.Module, option: str) -> bool:
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "add_argument"
        and any(isinstance(each, ast.Constant) and each.value == option for each in node.args)
        for node in ast.walk(tree)
    )
