# `make` lists the commands. Everything is installed into .venv: the first time, and again when pyproject.toml changes.

PYTHON ?= python3
JOBS ?= 2
ARGS ?=

# MkDocs stays below 2 in pyproject.toml; the theme need not say so at every build.
export NO_MKDOCS_2_WARNING := 1

# Only in CI must the playground be there: elsewhere its page says what it lacks, and its tests are skipped.
IF_NPM := $(if $(CI),,--if-npm)

PIP := .venv/bin/python -m pip --disable-pip-version-check --quiet --quiet

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.examples ## train the MNIST autoencoder and draw it; ARGS="--epochs 5" passes options on
	.venv/bin/python examples/mnist.py $(ARGS)

test: .venv/.dev ## check everything: style, types, the built docs, tests
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/python tools/playground.py $(IF_NPM)
	.venv/bin/mkdocs build --strict
	.venv/bin/pytest --numprocesses $(JOBS) --dist worksteal --benchmark-disable $(ARGS)

coverage: .venv/.dev ## find out which backbones have a mirror; ARGS="resnet18" for a few, "--write" for the page
	.venv/bin/python tools/coverage_of_backbones.py $(ARGS)

bench: .venv/.dev ## time what must stay fast
	.venv/bin/pytest tests/benchmarks $(ARGS)

learn: .venv/.dev ## train mirrors of thirteen families of networks beside generic decoders (hours)
	.venv/bin/python tools/learn.py $(ARGS)

docs: .venv/.dev ## serve the docs at http://127.0.0.1:8000, rebuilt as you write
	.venv/bin/python tools/playground.py $(IF_NPM)
	.venv/bin/mkdocs serve

clean: ## remove .venv, the built docs and all caches; runs/ stays
	rm -rf .venv site build dist docs/playground/runtime .hypothesis .benchmarks .mypy_cache .pytest_cache .ruff_cache
	find src tests examples -name __pycache__ -prune -exec rm -rf {} +

.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "obverse needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; \
		echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "Making .venv with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/.examples: .venv/.made pyproject.toml
	@echo "Installing obverse with what the examples need (PyTorch among it: some minutes the first time) ..."
	@$(PIP) install --editable '.[examples]'
	@touch $@

.venv/.dev: .venv/.made pyproject.toml
	@echo "Installing obverse with what its tests need (PyTorch among it: some minutes the first time) ..."
	@$(PIP) install --editable '.[dev]'
	@touch $@ .venv/.examples

.PHONY: help demo test coverage bench learn docs clean
