"""What moves a version on: load, work without a session, apply under the lease's guard.

Each step may be killed after any of its effects and run again: the end is the same.
"""
