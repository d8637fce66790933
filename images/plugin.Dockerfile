# The plugin: the folder that makes an official vLLM image an engine of ours, and a script that puts it on
# the volume that an init container shares with that image. A few megabytes, for any 0.32.x of vLLM.
# Built from the repository's folder: docker build --file images/plugin.Dockerfile .

ARG PYTHON_TAG=3.11.14-slim-bookworm
# "@sha256:..." ties a base to its bytes; a tag can be moved.
ARG PYTHON_DIGEST=""
ARG BUSYBOX_TAG=1.37.0-musl
ARG BUSYBOX_DIGEST=""

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

FROM busybox:${BUSYBOX_TAG}${BUSYBOX_DIGEST}
ARG VERSION=0.1.0
ARG REVISION=""
ARG SOURCE=""
LABEL org.opencontainers.image.title="loraplane plugin" \
      org.opencontainers.image.description="loraplane's plugin for an official vLLM image" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}"
COPY --from=bundle /opt/loraplane /opt/loraplane
COPY images/copy-plugin.sh /usr/local/bin/copy-plugin
USER 10001:10001
ENTRYPOINT ["sh", "/usr/local/bin/copy-plugin"]
CMD ["/plugin"]
