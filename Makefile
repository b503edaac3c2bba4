# rft from a checkout. `make` alone lists the targets. PYTHON=... chooses another interpreter (3.11 or newer).
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?=
PYTEST_ARGS ?=
# Processes that share the test files. More need more memory: each has torch loaded.
PYTEST_WORKERS ?= 2
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Waiting threads that spin make torch many times slower on cores that other work shares.
export OMP_WAIT_POLICY ?= PASSIVE

VENV := .venv
BIN := $(VENV)/bin
PINS := pyproject.toml constraints.txt
# A file's tests stay together, because they share jobs, and begin in their order: the long ones don't come last.
PYTEST := HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest \
	-n $(PYTEST_WORKERS) --dist loadfile --no-loadscope-reorder
FAULTS := tests/faults tests/test_gpu_check.py tests/training/test_divergence.py tests/cli/test_divergence.py

.PHONY: help quickstart test lint faults zoo learn bench clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

quickstart: $(VENV)/.ready ## install rft into .venv and train the embedded model on the sample data
	$(BIN)/rft create -t sample_data/train.jsonl -v sample_data/val.jsonl --reward-model sample_data/scorer.py

test: lint ## lint, types, import layers, then every test but the long learning runs, with coverage
	$(PYTEST) --cov --cov-report=term $(PYTEST_ARGS)

lint: $(VENV)/.ready-dev ## ruff, mypy --strict and the import layers alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

faults: $(VENV)/.ready-dev ## every fault a job must survive, many times over, with a table (long; make test has a short version)
	RFT_FAULTS=full $(PYTEST) $(FAULTS) $(PYTEST_ARGS)

zoo: $(VENV)/.ready-dev ## one step and its export on a tiny model of every architecture in docs/models.md (make test tries some)
	RFT_ZOO=full $(PYTEST) tests/training/test_zoo.py $(PYTEST_ARGS)

learn: $(VENV)/.ready-dev ## three seeds of the quickstart, GRPO beside them, and a second task (long)
	HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.learn

bench: $(VENV)/.ready-dev ## every benchmark: speed and start-up as ratios measured in one run
	HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.run

clean: ## remove .venv, caches and build products; runs/ stays
	rm -rf $(VENV) build dist htmlcov .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache \
		.hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are written last: an install that was cut off is made anew by the next `make`.
$(VENV)/.ready: $(PINS)
	@PYTHON='$(PYTHON)' scripts/venv.sh .
	@touch $@

$(VENV)/.ready-dev: $(PINS)
	@PYTHON='$(PYTHON)' scripts/venv.sh '.[dev]'
	@touch $(VENV)/.ready $@
