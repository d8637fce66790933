"""A Dockerfile as data: its stages, each a list of instructions."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
IMAGES = REPOSITORY / "images"
DOCKERFILES = sorted(IMAGES.glob("*.Dockerfile"))


@dataclass(frozen=True)
class Instruction:
    """`word` in capitals, and what stands behind it with continuation lines joined."""

    word: str
    rest: str


@dataclass
class Stage:
    """What follows one FROM; `name` is None for an unnamed stage."""

    base: str
    name: str | None
    instructions: list[Instruction] = field(default_factory=list)

    def last(self, word: str) -> str:
        """What the last instruction of that word says; the one that holds in the image."""
        return [one.rest for one in self.instructions if one.word == word][-1]

    def environment(self) -> dict[str, str]:
        """Everything that ENV sets here."""
        found = {}
        for one in self.instructions:
            if one.word == "ENV":
                found.update(part.split("=", 1) for part in shlex.split(one.rest))
        return found

    def labels(self) -> dict[str, str]:
        """Everything that LABEL sets here."""
        found = {}
        for one in self.instructions:
            if one.word == "LABEL":
                found.update(part.split("=", 1) for part in shlex.split(one.rest))
        return found


@dataclass
class Dockerfile:
    """Arguments before the first FROM, and the stages."""

    path: Path
    arguments: dict[str, str]
    stages: list[Stage]

    @property
    def name(self) -> str:
        """The image's short name."""
        return self.path.name.removesuffix(".Dockerfile")

    @property
    def image(self) -> Stage:
        """The stage that is the image."""
        return self.stages[-1]

    def every_argument(self) -> dict[str, str]:
        """Name to default of every ARG, wherever it stands; "" without one."""
        found = dict(self.arguments)
        for stage in self.stages:
            for one in stage.instructions:
                if one.word == "ARG":
                    name, _, default = one.rest.partition("=")
                    found[name] = default.strip('"')
        return found

    def copied_from_context(self) -> list[str]:
        """Every path of the repository that a COPY names."""
        copies = [
            shlex.split(one.rest)
            for stage in self.stages
            for one in stage.instructions
            if one.word in {"COPY", "ADD"} and "--from=" not in one.rest
        ]
        return [source for parts in copies for source in parts[:-1]]


def read_dockerfile(path: Path) -> Dockerfile:
    """Parse the few forms that ours use."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.M)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for line in filter(None, map(str.strip, lines)):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(base, name or None))
        elif stages:
            stages[-1].instructions.append(Instruction(word, rest))
        else:
            name, _, default = rest.partition("=")
            arguments[name] = default.strip('"')
    return Dockerfile(path, arguments, stages)
