"""Measurements of the running product, one program each; `python -m bench.scenarios` lists them."""
