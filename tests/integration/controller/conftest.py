from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.builders.controller import Controller, a_controller


@pytest.fixture
async def controller(tmp_path: Path) -> AsyncIterator[Controller]:
    async with a_controller(tmp_path) as controller:
        yield controller
