"""Fixtures, scenarios and the demo: everything that uses the product from outside."""
