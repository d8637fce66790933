"""The zoo: known-bad and good adapters through the real pipeline, and what became of each."""
