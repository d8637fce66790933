"""The controller: registry, upload API, lifecycle, gate, snapshot; without torch or vLLM."""
