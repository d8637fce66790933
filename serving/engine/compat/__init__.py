"""The only rooms that know vLLM (and torch): hooks, caches, kernels, the port. Tested on 0.32.x."""
