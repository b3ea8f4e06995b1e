# Two commands do everything on a machine with Python, git and make:
#   make demo    environment, install, train and test on the built-in toy scenes, pictures
#   make test    environment, install, the whole test suite
# Options: PYTHON=python3.12  VENV=.venv  TASK=detection  TESTS="tests/ops -k nms"  WORKERS=2
PYTHON ?= python3
VENV   ?= .venv
TASK   ?= detection
TESTS  ?=
WORKERS ?= 2

BIN     := $(VENV)/bin
READY   := $(VENV)/.ready
DEV     := $(VENV)/.ready-dev
UV      := $(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --constraint constraints.txt

.PHONY: help demo test test-all lint docs install clean

help:
	@sed -n '1,5p' $(firstword $(MAKEFILE_LIST)) | sed 's/^# \{0,1\}//'

install: $(DEV)

$(READY): pyproject.toml constraints.txt
	@echo "== making the environment in $(VENV) (once; about 5 GB with CUDA libraries)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(UV) --editable .
	@touch $@

$(DEV): $(READY)
	@echo "== adding what the test suite needs: every extra and the linters"
	$(UV) --editable '.[dev]'
	@touch $@

demo: $(READY)
	$(BIN)/rsf demo $(TASK)

test: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m 'not slow' $(TESTS)

test-all: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(TESTS)

lint: $(DEV)
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(DEV)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist
