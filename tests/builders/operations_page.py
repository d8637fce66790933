"""docs/operations.md as data: its commands, its files of values, and what it names."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "operations.md"
_FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.M | re.S)
# Programs whose use on the page is checked; a code span that begins with one is a command.
_PROGRAMS = ("helm", "kubectl", "loraplane", "make")


@dataclass(frozen=True)
class Command:
    """One command, without what the shell does with its input and output."""

    text: str

    @property
    def words(self) -> list[str]:
        """As the program gets them."""
        return shlex.split(self.text)

    @property
    def program(self) -> str:
        """Its first word."""
        return self.words[0]


def page() -> str:
    """The whole text."""
    return PAGE.read_text()


def section(title: str) -> str:
    """What stands under a heading of the second level."""
    (text,) = re.findall(rf"^## {title}$(.*?)(?=^## |\Z)", page(), re.M | re.S)
    return str(text)


def blocks(language: str) -> list[str]:
    """The fenced texts in a language, without their indentation."""
    return [
        re.sub(rf"^{indent}", "", body, flags=re.M)
        for indent, found, body in _FENCE.findall(page())
        if found == language
    ]


ADAPTER = "prometheus-adapter.yaml"
"""The one file of values that is for another chart than ours."""


def values_files() -> dict[str, str]:
    """Name to content of the files of values for our chart that the page shows."""
    return {name: body for name, body in yaml_files().items() if name != ADAPTER}


def yaml_files() -> dict[str, str]:
    """Name to content of every file in YAML that the page shows."""
    files = {}
    for body in blocks("yaml"):
        name = body.splitlines()[0].removeprefix("# ")
        assert name.endswith(".yaml"), f"a file without its name: {body[:80]}"
        assert name not in files
        files[name] = body
    return files


def spans() -> list[str]:
    """Everything between backticks in running text and tables."""
    return re.findall(r"`([^`\n]+)`", _FENCE.sub("", page()))


def commands(program: str | None = None) -> list[Command]:
    """Every command of the page, of one program if named; those in running text, too."""
    lines = []
    for body in blocks("console"):
        for line in re.sub(r"\\\n\s*", "", body).splitlines():
            assert line.startswith("$ "), f"neither a command nor its continuation: {line}"
            lines += _inside(line.removeprefix("$ "))
    lines += [span for span in spans() if span.startswith(tuple(f"{p} " for p in _PROGRAMS))]
    found = [Command(_without_shell(line)) for line in lines]
    return [one for one in found if program is None or one.program == program]


def _inside(line: str) -> list[str]:
    """A line, or what its substitution runs: `export X=$(kubectl ... | base64 -d)`."""
    inner = re.fullmatch(r"export \w+=\$\((.*)\)", line)
    if inner:
        return [inner[1]]
    return [] if line.startswith("export ") else [line]


def _without_shell(line: str) -> str:
    """Up to the first pipe, redirection or ampersand that is not quoted."""
    lexer = shlex.shlex(line, posix=False, punctuation_chars="|&<>")
    lexer.whitespace_split = True
    lexer.commenters = ""
    kept = []
    for token in lexer:
        if set(token) <= set("|&<>"):
            break
        kept.append(token)
    return " ".join(kept)
