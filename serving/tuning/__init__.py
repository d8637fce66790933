"""Load, and what it shows of an engine: shapes of load, replay against goals, search for a profile.

Starts engines and asks them from outside, as clients do; knows neither controller nor cluster.
"""
