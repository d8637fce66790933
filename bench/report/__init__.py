"""What scenarios measured, for people: an HTML page, and the generated parts of the docs.

Reads bench/results; the files are the only source of figures. Pure but for `__main__` and `load`.
"""
