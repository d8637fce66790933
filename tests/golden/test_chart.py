"""What each profile of the chart installs, as reviewed: a change here changes people's clusters."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.builders.helm import GIVEN_SECRETS, PROFILES, render_text


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_installs_what_was_reviewed(
    profile: str, golden: Callable[[str, str], None]
) -> None:
    text = render_text({"secrets": GIVEN_SECRETS}, profile, namespace="serving")

    golden(f"chart/{profile}.yaml", text)
