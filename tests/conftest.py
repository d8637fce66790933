"""Order: cheap tests first, so that a mistake shows in seconds; those with a real engine last."""

from __future__ import annotations

import pytest
from hypothesis import settings

# How long one example takes says how busy the machine is, and nothing about the property.
settings.register_profile("busy-machine", deadline=None, print_blob=True)
settings.load_profile("busy-machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def cost(item: pytest.Item) -> tuple[bool, bool]:
        is_real = item.get_closest_marker("engine") is not None
        return is_real, is_real and item.get_closest_marker("slow") is not None

    items.sort(key=cost)
