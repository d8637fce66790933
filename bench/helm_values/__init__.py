"""The chart's values as a page, and what its schema takes from the code's settings."""
