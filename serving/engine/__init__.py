"""One vLLM server with our plugin: agent, tenancy, admission, metrics. vLLM only in `compat`."""
