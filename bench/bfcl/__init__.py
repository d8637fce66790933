"""Our tool-call scoring against the Berkeley leaderboard: data, checker, changed answers."""
