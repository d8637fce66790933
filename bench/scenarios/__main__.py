"""`python -m bench.scenarios`: which scenarios there are, and how to run one."""

from __future__ import annotations

import ast
from pathlib import Path


def main() -> None:
    """List them; each is a program of its own, because some start a real engine."""
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if not path.name.startswith("_"):
            first = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
            print(f"python -m bench.scenarios.{path.stem}\n    {first}")


if __name__ == "__main__":
    main()
