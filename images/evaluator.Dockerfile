# The evaluator: what the controller has, and torch, transformers and PEFT. It runs the gate's standalone
# reference as a Job, and may be the controller's image where that runs the reference itself.
# Built from the repository's folder: docker build --file images/evaluator.Dockerfile .

ARG PYTHON_TAG=3.11.14-slim-bookworm
# "@sha256:..." ties the base to its bytes; a tag can be moved.
ARG PYTHON_DIGEST=""

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

# Without a pip of its own: nothing in the image can install more. Only wheels: nothing is compiled.
FROM python:${PYTHON_TAG}${PYTHON_DIGEST} AS installed
# cuda: torch and the CUDA libraries that it asks for by exact version. cpu: a fraction of the size; the
# index that has "+cpu" builds is named by PIP_EXTRA_INDEX_URL, where the usual one has none.
ARG VARIANT=cuda
ARG TORCH_VERSION=2.13.0
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
COPY images/requirements/evaluator.txt /requirements.txt
RUN case "${VARIANT}" in \
      cuda) torch="torch==${TORCH_VERSION}" ;; \
      cpu) torch="torch==${TORCH_VERSION}+cpu" ;; \
      *) echo "VARIANT is cuda or cpu, not ${VARIANT}" >&2; exit 2 ;; \
    esac \
    && python3 -m venv --without-pip /opt/loraplane \
    && python3 -m pip --python /opt/loraplane/bin/python3 install \
      --no-cache-dir --only-binary=:all: --constraint /requirements.txt "${torch}" \
    && python3 -m pip --python /opt/loraplane/bin/python3 install \
      --no-cache-dir --no-deps --only-binary=:all: --requirement /requirements.txt
COPY --from=wheel /wheels /wheels
RUN python3 -m pip --python /opt/loraplane/bin/python3 install \
      --no-cache-dir --no-deps --no-index /wheels/loraplane-*.whl

FROM python:${PYTHON_TAG}${PYTHON_DIGEST}
ARG VERSION=0.1.0
ARG REVISION=""
ARG SOURCE=""
LABEL org.opencontainers.image.title="loraplane evaluator" \
      org.opencontainers.image.description="Standalone reference of loraplane's parity gate" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}"
# The base comes with what builds and installs packages; a service has no use for it, an intruder has.
RUN python3 -m pip uninstall --yes setuptools wheel pip \
    && rm -rf /usr/local/lib/python3.*/ensurepip \
    && install -d -o 10001 -g 10001 /var/lib/loraplane
COPY --from=installed /opt/loraplane /opt/loraplane
# Bytecode was written when the packages were installed; later there may be nowhere to write it.
# torch asks for the user's name, and a number has none.
# NVIDIA's container toolkit reads NVIDIA_DRIVER_CAPABILITIES. Where a device plugin mounts the driver
# without the toolkit (GKE), nothing but LD_LIBRARY_PATH leads a Python image to libcuda; on CPUs the
# folders do not exist. Which GPUs is the device plugin's to say, so NVIDIA_VISIBLE_DEVICES is not set.
ENV PATH=/opt/loraplane/bin:$PATH \
    LD_LIBRARY_PATH=/usr/local/nvidia/lib64:/usr/local/nvidia/lib \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    USER=loraplane \
    LOGNAME=loraplane \
    LORAPLANE_DATA_DIR=/var/lib/loraplane \
    LORAPLANE_HOST=0.0.0.0
WORKDIR /var/lib/loraplane
USER 10001:10001
EXPOSE 8400
ENTRYPOINT ["python3", "-m", "serving.cli"]
CMD ["controller"]
