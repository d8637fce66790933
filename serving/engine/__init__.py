"""One vLLM server with our plugin: agent, tenancy, admission, metrics. vLLM itself only in `compat`."""
