# The engine: an official vLLM image, and one folder beside it with our plugin and the few packages that
# vLLM lacks. No package of vLLM's is replaced, so what vLLM's makers tested is what runs.
# On CPU: --build-arg VLLM_IMAGE=vllm/vllm-openai-cpu
# Built from the repository's folder: docker build --file images/engine.Dockerfile .

ARG PYTHON_TAG=3.11.14-slim-bookworm
# "@sha256:..." ties a base to its bytes; a tag can be moved.
ARG PYTHON_DIGEST=""
ARG VLLM_IMAGE=vllm/vllm-openai
# The version that the plugin was tested on; it refuses to start in another than 0.32.x.
ARG VLLM_VERSION=0.32.0
ARG VLLM_DIGEST=""

# The same stage in each Dockerfile here; no image keeps more of it than the wheel. PIP_INDEX_URL and
# PIP_EXTRA_INDEX_URL, if given, are read by pip: a mirror, where the usual index is out of reach.
FROM python:${PYTHON_TAG}${PYTHON_DIGEST} AS wheel
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
WORKDIR /source
RUN python3 -m pip install --no-cache-dir setuptools==78.1.1
COPY pyproject.toml README.md LICENSE ./
COPY adapters adapters
COPY serving serving
RUN python3 -m pip wheel --no-cache-dir --no-build-isolation --no-deps --wheel-dir /wheels .

# Only wheels, without dependencies: vLLM has the rest, and nothing of vLLM's may be moved.
FROM python:${PYTHON_TAG}${PYTHON_DIGEST} AS bundle
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
COPY images/requirements/bundle.txt /requirements.txt
COPY --from=wheel /wheels /wheels
RUN python3 -m pip install --target /opt/loraplane --no-cache-dir --no-compile --no-deps \
      --only-binary=:all: --requirement /requirements.txt \
    && python3 -m pip install --target /opt/loraplane --no-cache-dir --no-compile --no-deps \
      --no-index /wheels/loraplane-*.whl \
    && rm -rf /opt/loraplane/bin

FROM ${VLLM_IMAGE}:v${VLLM_VERSION}${VLLM_DIGEST}
ARG VERSION=0.1.0
ARG REVISION=""
ARG SOURCE=""
LABEL org.opencontainers.image.title="loraplane engine" \
      org.opencontainers.image.description="vLLM with loraplane's plugin" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}"
USER 0:0
COPY --from=bundle /opt/loraplane /opt/loraplane
# Bytecode of this Python, written here; later there may be nowhere to write it.
RUN python3 -m compileall -q /opt/loraplane \
    && install -d -o 10001 -g 10001 /var/lib/loraplane
# torch asks for the user's name, and a number has none.
ENV PYTHONPATH=/opt/loraplane \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    USER=loraplane \
    LOGNAME=loraplane \
    LORAPLANE_ENGINE_DIR=/var/lib/loraplane \
    LORAPLANE_HOST=0.0.0.0
WORKDIR /var/lib/loraplane
USER 10001:10001
# A vLLM image that lacks something else, or hides its Python from this user, fails here and not on a GPU node.
RUN python3 -m serving.cli engine --help >/dev/null \
    && python3 -c "import serving.engine.launch, serving.engine.plugin, serving.engine.runtime"
EXPOSE 8500
ENTRYPOINT ["python3", "-m", "serving.cli"]
CMD ["engine"]
