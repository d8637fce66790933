"""The reference server as a pod runs it, with another child: `reference_pod.py PROGRAM ...`."""

from __future__ import annotations

import os
import sys
from typing import Any

from adapters.parity import reference_server
from adapters.parity.reference_channel import ProcessLauncher


def main() -> None:
    child = [sys.executable, *sys.argv[1:]]

    class Launcher(ProcessLauncher):
        def __init__(self, command: object, **settings: Any) -> None:
            super().__init__(child, **settings)

    if os.environ.get("FAILS_AT_START"):
        sys.exit("no GPU is visible")
    reference_server.ProcessLauncher = Launcher  # type: ignore[misc]
    reference_server.main([])


if __name__ == "__main__":
    main()
