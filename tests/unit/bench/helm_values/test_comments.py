"""How values.yaml's comments become rows."""

from __future__ import annotations

import pytest

from bench.helm_values.comments import (
    CommentMisplaced,
    Value,
    described_values,
    undescribed_leaves,
)

SOURCE = """\
# A remark for readers of the file alone.

# --- Engines

engine:
  # -- How many.
  replicas: 1
  drain:
    # -- In seconds.
    timeoutSeconds: 120
  # -- Taints.
  tolerations:
    - key: gpu
      operator: Exists
# --- Controller

controller:
  # -- Everything of it.
  resources:
    limits: {cpu: 1}
"""


def test_each_text_belongs_to_the_key_below_it() -> None:
    assert described_values(SOURCE) == [
        Value("Engines", "engine.replicas", 1, "How many."),
        Value("Engines", "engine.drain.timeoutSeconds", 120, "In seconds."),
        Value("Engines", "engine.tolerations", [{"key": "gpu", "operator": "Exists"}], "Taints."),
        Value("Controller", "controller.resources", {"limits": {"cpu": 1}}, "Everything of it."),
    ]


def test_a_value_without_a_text_is_found_and_one_below_a_text_is_not() -> None:
    assert undescribed_leaves(SOURCE) == []
    assert undescribed_leaves("a:\n  # -- This.\n  b: 1\n  c: 2\n") == ["a.c"]


def test_a_text_that_stands_above_no_key_is_refused() -> None:
    with pytest.raises(CommentMisplaced, match="line 2"):
        described_values("# -- A text.\n\nkey: 1\n")
