# `make` alone lists the targets. `make demo` and `make test` work on a fresh clone with Python 3.11+ and nothing else.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TOOLS := .venv-tools/bin
PATHS := libs services tests bench examples tools
export PERENNIAL_CACHE ?= $(HOME)/.cache/perennial
unexport PYTHONDONTWRITEBYTECODE
# Two libraries with two threads each on two cores make a one-second fit take eleven.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo up down secrets protos format check test bench ci clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

$(VENV)/.demo: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Perennial needs Python 3.11 to 3.13, this is " + sys.version.split()[0]) if not (3, 11) <= sys.version_info < (3, 14) else 0'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo]'
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	touch $@

.venv-tools/.done: constraints-tools.txt
	test -x $(TOOLS)/python || $(PYTHON) -m venv .venv-tools
	$(TOOLS)/python -m pip install --quiet --disable-pip-version-check -c constraints-tools.txt grpcio-tools mypy-protobuf
	touch $@

setup: $(VENV)/.dev ## Install everything for development into .venv

demo: $(VENV)/.demo ## Replay a year of real flights (ARGS="--fast", "--incident", "--json FILE")
	$(BIN)/perennial demo $(ARGS)

up: $(VENV)/.demo ## Start the platform on this machine
	$(BIN)/perennial up

down: ## Stop it
	$(BIN)/perennial down

secrets: $(VENV)/.demo ## Generate the platform's keys into .perennial/secrets
	$(BIN)/python -c 'from pathlib import Path; from perennial.runtime import secrets; secrets.ensure(Path(".perennial/secrets"))'

protos: $(VENV)/.dev .venv-tools/.done ## Generate libs/perennial/v1 from protos/
	$(TOOLS)/python tools/protos.py

format: $(VENV)/.dev ## Format the code
	$(BIN)/ruff format --quiet $(PATHS)
	$(BIN)/ruff check --quiet --fix $(PATHS)
	$(BIN)/python tools/unasync.py

check: $(VENV)/.dev .venv-tools/.done ## Lint, types, import contracts, protos, shape
	$(BIN)/ruff check $(PATHS)
	$(BIN)/python tools/unasync.py --check
	$(BIN)/mypy libs services tests bench examples tools
	$(BIN)/lint-imports
	BUF_CACHE_DIR=$(VENV)/buf $(BIN)/buf lint protos
	BUF_CACHE_DIR=$(VENV)/buf $(BIN)/buf breaking protos --against protos/released.binpb
	$(TOOLS)/python tools/protos.py --check
	$(BIN)/python -m pytest tests/shape

test: $(VENV)/.dev ## Run the tests, on one embedded stack
	$(BIN)/python -m pytest tests

bench: $(VENV)/.dev ## Measure against the floors
	set -e; for file in bench/[a-z]*.py; do $(BIN)/python $$file; done

ci: ## What runs on every commit: check, the demo at a small size, the tests
	$(MAKE) check
	$(MAKE) demo ARGS="--fast --json .perennial/demo-fast.json"
	$(BIN)/python tools/demo_held.py .perennial/demo-fast.json
	$(MAKE) test

clean: ## Remove what was installed and every local platform's data
	rm -rf $(VENV) .venv-tools .perennial
