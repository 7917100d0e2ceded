# Intaglio: `make demo` and `make test` need nothing but a Debian or Ubuntu with Python 3.11 or newer.

BOARD ?= microbit
MODEL ?= docs/examples/digits/digits.onnx
DATA  ?= $(if $(findstring digits.onnx,$(MODEL)),docs/examples/digits/digits_calibration.npz)
DATA_OPTION = $(if $(DATA),--data $(DATA))
JOBS  ?= $(shell nproc)

VENV := .venv
BIN  := $(VENV)/bin

.PHONY: help setup demo test test-all build flash simulate verify bench check format docs dist clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: $(VENV)/.ready ## Install what is missing: system packages, the virtual environment

$(VENV)/.ready: pyproject.toml tools/setup.sh
	@sh tools/setup.sh $(VENV)

demo: setup ## Train-to-board demonstration on a simulated micro:bit
	@$(BIN)/python docs/examples/digits/demo.py --board $(BOARD)

test: setup ## The test suite
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup

test-all: setup ## The test suite with the slow sweeps
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m "slow or not slow"

build: setup ## Build firmware: BOARD=..., MODEL=...
	@$(BIN)/intaglio build $(MODEL) --board $(BOARD) $(DATA_OPTION)

flash: setup ## Build firmware and flash it: BOARD=..., MODEL=...
	@$(BIN)/intaglio flash $(MODEL) --board $(BOARD) $(DATA_OPTION)

simulate: setup ## Build firmware and run it in the simulator: BOARD=..., MODEL=...
	@$(BIN)/intaglio simulate $(MODEL) --board $(BOARD) $(DATA_OPTION)

verify: setup ## Compare every route that computes the model: BOARD=..., MODEL=...
	@$(BIN)/intaglio verify $(MODEL) --board $(BOARD) $(DATA_OPTION)

bench: setup ## The benchmark (INTAGLIO_MODELS names the folder of models)
	@$(BIN)/python benchmarks/bench.py

check: setup ## Lint, types, formatting, import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p build/typing && ln -sfn ../.. build/typing/intaglio
	$(BIN)/mypy -p intaglio.quantizer -p intaglio.codegen -p intaglio.boards -p intaglio.host
	$(BIN)/lint-imports
	git ls-files '*.c' '*.h' | xargs $(BIN)/clang-format --dry-run -Werror

format: setup ## Format Python and C
	$(BIN)/ruff check --fix-only -q .
	$(BIN)/ruff format -q .
	git ls-files '*.c' '*.h' | xargs $(BIN)/clang-format -i

docs: setup ## Regenerate the generated reference pages
	$(BIN)/python tools/generate_docs.py

dist: setup ## Build the wheel and the source distribution
	$(BIN)/python -m build

clean: ## Remove what was built
	rm -rf build dist *.egg-info
