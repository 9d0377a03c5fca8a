# make demo   sets everything up and shows the main job on rendered products (DATA=..., BACKBONE=... for real ones)
# make test   sets everything up and runs the whole suite
# make check  lint, format, types, import contracts
# make bench  one table of figures from rendered products (DATA=... BACKBONE=...: from real ones, to bench.json)

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# address of PyTorch's CPU-only index, from its installation page: saves gigabytes on a machine without GPU
TORCH_INDEX ?=
DATA ?=
BACKBONE ?=
OUTPUT ?= demo-output
PYTEST_ADDOPTS ?=

.PHONY: setup setup-dev demo test check bench clean

setup: $(VENV)/.runtime
setup-dev: $(VENV)/.development

$(BIN)/pip:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "stream-ad needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"

$(VENV)/.runtime: pyproject.toml constraints.txt | $(BIN)/pip
	$(if $(TORCH_INDEX),$(BIN)/pip install --quiet --constraint constraints.txt --index-url $(TORCH_INDEX) torch torchvision)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[cpu]"
	touch $@

$(VENV)/.development: $(VENV)/.runtime
	$(BIN)/pip install --quiet --constraint constraints.txt --group dev
	touch $@

demo: setup
	$(BIN)/stream-ad demo --output $(OUTPUT) $(if $(DATA),--data $(DATA)) $(if $(BACKBONE),--backbone $(BACKBONE))

test: setup-dev
	PYTEST_ADDOPTS="$(PYTEST_ADDOPTS)" $(BIN)/python -m pytest

check: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

bench: setup
	$(if $(DATA),$(BIN)/stream-ad bench continual --data $(DATA) --output bench.json $(if $(BACKBONE),--backbone $(BACKBONE)),$(BIN)/python -m benchmarks.rendered)

clean:
	rm -rf $(OUTPUT) .pytest_cache .ruff_cache .hypothesis
