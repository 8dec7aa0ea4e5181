# Everything a fresh machine with Python 3.11 and make needs. A second run installs nothing.

# The locks are resolved for Python 3.11.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
STAMP := $(VENV)/.installed
# What is installed stays; a new .venv gets what fits the machine.
INSTALLED := $(patsubst $(STAMP)-%,%,$(firstword $(wildcard $(STAMP)-cpu $(STAMP)-cuda)))
ENGINE := $(or $(INSTALLED),$(shell nvidia-smi >/dev/null 2>&1 && echo cuda || echo cpu))
# PyTorch's CPU builds have an index of their own, which pip asks for torch alone. Where it is
# out of reach, pip gives it up after some seconds and takes what it finds elsewhere.
TORCH_CPU := https://download.pytorch.org/whl/cpu

.DEFAULT_GOAL := help
.PHONY: help install serve distill check test soak format lock clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

install: $(STAMP)-$(ENGINE) ## Make .venv with all that serving needs

serve: install ## Serve on 127.0.0.1:8000 (ARGS="--port 9000" passes flags on)
	$(BIN)/steper-serve serve $(ARGS)

distill: $(STAMP)-train ## Distil a student (ARGS="run recipes/distill/configs/fictional.toml")
	$(BIN)/steper-serve distill $(ARGS)

check: $(STAMP)-dev ## Lint, format check, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(STAMP)-dev ## Run every test (ARGS="-m 'not engine'" for the fast ones)
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

soak: install ## Ten minutes at twice what a server takes (ARGS="--minutes 1")
	$(BIN)/steper-serve bench soak $(ARGS)

format: $(STAMP)-dev ## Rewrite the code in the house's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/.made ## Resolve the versions anew
	$(PIP) install packaging
	$(BIN)/python requirements/lock.py
	$(BIN)/python requirements/lock.py --cuda

clean: ## Remove .venv
	rm -rf $(VENV)

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "Python 3.11 is needed: make PYTHON=/path/to/python3.11 …" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) install --upgrade "pip>=25"
	@touch $@

$(STAMP)-cpu: requirements/cpu.lock pyproject.toml | $(VENV)/.made
	$(PIP) install --no-deps --extra-index-url $(TORCH_CPU) $(shell grep '^torch==' requirements/cpu.lock)
	$(PIP) install --no-deps --requirement requirements/cpu.lock
	$(PIP) --quiet install --no-deps --editable .  # quieter: it warns of being editable
	@touch $@

$(STAMP)-cuda: requirements/cuda.lock pyproject.toml | $(VENV)/.made
	$(PIP) install --constraint requirements/cuda.lock --editable .[cuda]
	@touch $@

$(STAMP)-train: requirements/train.lock $(STAMP)-$(ENGINE)
	$(PIP) install --no-deps --requirement requirements/train.lock
	@touch $@

$(STAMP)-dev: requirements/dev.lock $(STAMP)-train
	$(PIP) install --no-deps --requirement requirements/dev.lock
	@touch $@
