"""A real controller under many adapters and many engines, as scenarios and tests meet it."""
