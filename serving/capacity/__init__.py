"""How many slots a fleet needs, from what it was asked for. Pure: no clock, no input, no output.

Controller and engine both use this room, and it knows neither of them.
"""
