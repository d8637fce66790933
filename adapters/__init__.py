"""What an adapter is, and whether it is good: identity, artifact checks, store, parity."""
