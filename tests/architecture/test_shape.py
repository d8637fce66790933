"""The house rules that a reader relies on, checked instead of promised."""

from __future__ import annotations

import ast
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
ROOMS = ("adapters", "serving", "bench", "tests")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
# Written in pieces, so that this file does not accuse itself.
FORBIDDEN = tuple(
    first + second
    for first, second in (
        ("TO", "DO"), ("FIX", "ME"), ("X", "XX"), ("raise NotImplemented", "Error"),
        ("for n", "ow"), ("place", "holder"), ("/wo", "rk/"), ("/ro", "ot/"),
    )
)  # fmt: skip
ROOM_NAMES_WITHOUT_A_SUBJECT = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}


def sources(*rooms: str) -> list[Path]:
    files = [path for room in rooms for path in sorted((REPOSITORY / room).rglob("*.py"))]
    return [path for path in files if "__pycache__" not in path.parts]


def shown(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", sources(*ROOMS), ids=shown)
def test_a_file_and_its_functions_can_be_read_in_one_go(path: Path) -> None:
    text = path.read_text()

    long = {
        node.name: n_lines
        for node in functions(ast.parse(text))
        # A migration is one list of statements, written once and never changed.
        if "migrations" not in path.parts
        and (n_lines := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    }

    assert len(text.splitlines()) <= MAX_FILE_LINES
    assert long == {}


@pytest.mark.parametrize("path", sources("adapters", "serving", "bench"), ids=shown)
def test_a_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", sources("adapters", "serving", "bench"), ids=shown)
def test_a_module_has_a_subject_in_its_name(path: Path) -> None:
    assert path.stem not in ROOM_NAMES_WITHOUT_A_SUBJECT


def tracked_texts() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    endings = {".py", ".md", ".toml", ".yaml", ".yml", ".cfg", ".lock", ".sh", ""}
    paths = [REPOSITORY / name for name in listing.stdout.split("\0") if name]
    return [path for path in paths if path.suffix in endings and path.is_file()]


def test_nothing_is_left_unfinished_or_tied_to_one_machine() -> None:
    accused = {
        shown(path): words
        for path in tracked_texts()
        if path.name != "LICENSE"
        and (words := [word for word in FORBIDDEN if word in path.read_text(errors="replace")])
    }

    assert accused == {}


@pytest.mark.parametrize("path", sources("adapters", "serving"), ids=shown)
def test_exported_names_are_sorted(path: Path) -> None:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
        ):
            names = ast.literal_eval(node.value)
            assert list(names) == sorted(names)


@pytest.mark.parametrize("path", sources("tests"), ids=shown)
def test_every_test_is_in_a_file_that_pytest_collects(path: Path) -> None:
    tree = ast.parse(path.read_text())

    has_tests = any(node.name.startswith("test_") for node in functions(tree))

    assert (has_tests or gives_a_state_machine(tree)) == path.name.startswith("test_")


def gives_a_state_machine(tree: ast.Module) -> bool:
    """Whether the module says `TestX = Machine.TestCase`, which pytest collects too."""
    return any(
        isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "TestCase"
        and any(isinstance(name, ast.Name) and name.id.startswith("Test") for name in node.targets)
        for node in tree.body
    )


def test_imports_go_the_way_that_the_architecture_says() -> None:
    lint = Path(sysconfig.get_path("scripts")) / "lint-imports"

    result = subprocess.run(
        [str(lint), "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    "module", ["serving.cli.main", "serving.settings", "serving.contract", "adapters.preflight"]
)
def test_the_light_rooms_start_without_torch_or_vllm(module: str) -> None:
    code = (
        f"import sys, {module}; "
        "print([name for name in ('torch', 'vllm', 'transformers', 'peft') if name in sys.modules])"
    )

    result = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )

    assert result.stdout.strip() == "[]"
