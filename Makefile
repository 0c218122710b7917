# Everyday commands; `make help` lists them. Everything runs in .venv, which the first command creates.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := PIP_CONSTRAINT=constraints.txt $(PIP) install --quiet

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-clients lint types house stubs findings bench-step bench-gpu bench-loop bench-digits bench-doctor bench-compile bench-tune clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1	/' | expand -t 14

$(VENV)/python: # one environment; an interrupted creation is begun again
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Kudari needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12 demo")'
	@rm -rf $(VENV)
	@echo "Creating $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/train: $(VENV)/python pyproject.toml constraints.txt
	@echo "Installing Kudari and what training needs (once, a few minutes) ..."
	@$(INSTALL) -e '.[train]'
	@touch $@

$(VENV)/test: $(VENV)/train
	@echo "Installing what the tests need ..."
	@$(INSTALL) -e '.[train,test]'
	@touch $@

$(VENV)/bench: $(VENV)/train
	@echo "Installing other packages' optimizers, to be timed beside ours ..."
	@$(INSTALL) -e '.[train,bench]'
	@touch $@

setup: $(VENV)/train ## create .venv and install Kudari with its pinned dependencies

demo: $(VENV)/train ## train on real handwritten digits; ends with where the report is
	@$(BIN)/kudari train digits

test: $(VENV)/test lint types house ## everything that must hold, in a few minutes
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest

$(VENV)-clients/done: pyproject.toml constraints.txt # an environment of its own: these bring thirty packages
	@rm -rf $(VENV)-clients
	@$(PYTHON) -m venv $(VENV)-clients
	@PIP_CONSTRAINT=constraints.txt $(VENV)-clients/bin/python -m pip --disable-pip-version-check install --quiet -e '.[train,test,clients]'
	@touch $@

test-clients: $(VENV)-clients/done ## our optimizers and schedules inside Lightning, Accelerate, transformers, skorch
	@OMP_NUM_THREADS=1 $(VENV)-clients/bin/python -m pytest tests/clients

lint: $(VENV)/test ## style and common mistakes
	@$(BIN)/ruff check src tests benchmarks tools
	@$(BIN)/ruff format --check src tests benchmarks tools

types: $(VENV)/test ## strict type checking of the package
	@$(BIN)/mypy

house: $(VENV)/test ## imports only go down the layers
	@$(BIN)/lint-imports --no-cache

stubs: $(VENV)/test ## write optim/__init__.pyi and docs/optimizers.md from the rules
	@$(BIN)/python tools/make_stubs.py
	@$(BIN)/python tools/make_optimizer_page.py

findings: $(VENV)/test ## run every finding's scripts and write docs/findings.md
	@$(BIN)/python tools/make_findings.py

bench-step: $(VENV)/bench ## time of a step of every optimizer against torch and others, as ratios
	@$(BIN)/python benchmarks/bench_step.py
	@$(BIN)/python benchmarks/bench_rules.py
	@$(BIN)/python benchmarks/bench_codecs.py

bench-gpu: $(VENV)/train ## time of a step on a CUDA device against torch, as ratios
	@$(BIN)/python benchmarks/bench_gpu.py

bench-loop: $(VENV)/train ## time of a training step against a plain loop, as ratios
	@$(BIN)/python benchmarks/bench_loop.py
	@$(BIN)/python benchmarks/bench_loop.py --busy

bench-digits: $(VENV)/train ## accuracy of the built-in default over seeds and fresh splits
	@$(BIN)/python benchmarks/bench_digits.py

$(VENV)-doctors/done: pyproject.toml constraints.txt # other tools; --no-deps, because they ask for other versions of torch
	@rm -rf $(VENV)-doctors
	@$(PYTHON) -m venv $(VENV)-doctors
	@PIP_CONSTRAINT=constraints.txt $(VENV)-doctors/bin/python -m pip --disable-pip-version-check install --quiet -e '.[train]' libcst
	@$(VENV)-doctors/bin/python -m pip --disable-pip-version-check install --quiet --no-deps torch-audit==0.3.0 torch-preflight==0.5.0 torchmortem==0.1.1 gradsnitch==0.1.0 torchtest2==0.1.0
	@touch $@

bench-doctor: $(VENV)/train $(VENV)-doctors/done ## all cases of the doctor, what watching costs, and other tools beside it
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/bench_doctor_cases.py
	@$(BIN)/python benchmarks/bench_doctor.py
	@OMP_NUM_THREADS=1 $(VENV)-doctors/bin/python benchmarks/bench_doctor_others.py

bench-compile: $(VENV)/train ## time to the first step, cold and from the cache, and of the import
	@$(BIN)/python benchmarks/bench_compile.py

bench-tune: $(VENV)/test ## regret of suggested learning rates, beside other libraries' finders
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.tune

clean: ## remove what was built, not what was trained
	@rm -rf $(VENV) $(VENV)-clients $(VENV)-doctors build dist .mypy_cache .ruff_cache .hypothesis src/*.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
