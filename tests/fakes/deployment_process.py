"""The small deployment as a program: serves a model folder, with a child of its own.

    python deployment_process.py FOLDER PORT NAME

It ends with status 3 where the folder holds no weights, and never answers where NAME is "silent".
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))


def main() -> None:
    folder, port, name = sys.argv[1:]
    if not (Path(folder) / "model.safetensors").is_file():
        sys.stderr.write("no weights there")
        sys.exit(3)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(folder).parent.parent.joinpath("child.pid").write_text(str(child.pid))
    if name == "silent":
        time.sleep(600)

    import uvicorn

    from tests.fakes.deployment import FakeDeployment

    fake = FakeDeployment(name=name, key=None, answers_as=[name])
    uvicorn.run(fake.app, host="127.0.0.1", port=int(port), log_level="warning")


if __name__ == "__main__":
    main()
