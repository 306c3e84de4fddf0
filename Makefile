# `make train` and `make test` need Python 3.11 to 3.13 and git; they set up the rest in .venv.
PYTHON ?= $(shell for v in 3.11 3.12 3.13; do command -v python$$v && break; done || command -v python3)
# CPU wheels by default, where pip can find them; `make setup TORCH=torch==2.13.0` takes your
# platform's own build, and PIP_EXTRA_INDEX_URL names an index that has the CPU ones.
TORCH ?= torch==2.13.0+cpu
TORCH_ELSE ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.complete
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
export OMP_NUM_THREADS ?= 1

.PHONY: help setup train test test-fast check docs format clean
.PHONY: bench bench-target bench-encryption bench-scaling bench-games bench-rivals up down

help:  ## what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup: $(SETUP)  ## make .venv with everything pinned

$(SETUP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt "$(TORCH)" 2>/dev/null || $(PIP) -c constraints.txt "$(TORCH_ELSE)"
	$(PIP) -c constraints.txt -e ".[dev]"
	@touch $@

train: setup  ## learn Pong: 2 actors, data mode; ARGS="--mode gradients --max-minutes 5"
	$(BIN)/asyncade train $(ARGS)

bench: setup  ## ceiling, pipeline efficiency, wire, intake of this machine: a quarter of an hour
	$(BIN)/python -m bench $(ARGS)

bench-target: setup  ## time to the target, five seeds, both modes: hours; then the picture
	$(BIN)/python -m bench.time_to_target --mode data $(ARGS)
	$(BIN)/python -m bench.time_to_target --mode gradients $(ARGS)
	$(BIN)/python -m bench.picture

bench-encryption: setup  ## what CURVE costs
	$(BIN)/python -m bench.encryption $(ARGS)

bench-scaling: setup  ## what asyncade plan foretells against what is measured: over half an hour
	$(BIN)/python -m bench.scaling $(ARGS)

bench-games: setup  ## Breakout, Freeway, Boxing against random play
	$(BIN)/python -m bench.games $(ARGS)

bench-rivals: setup  ## other implementations on this machine, each in a venv of its own
	$(BIN)/python bench/rivals/run.py $(ARGS)

up:  ## the same as containers, with Grafana and Prometheus; ARGS="--scale actor=4"
	docker compose up $(ARGS)

down:  ## end the containers; runs and metrics stay
	docker compose --profile '*' down $(ARGS)

check: setup  ## lint, types, import floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy bench
	$(BIN)/lint-imports
	$(BIN)/python docs/tables.py --check
	$(BIN)/python -m bench.table --check
	$(BIN)/python -m bench.autoscaling --check
	$(BIN)/python k8s/prometheus_rule.py --check

test: check  ## check, then every test
	$(BIN)/python -m pytest $(ARGS)

test-fast: setup  ## unit, contract and integration tests, without containers and service processes
	$(BIN)/python -m pytest tests/unit tests/contract tests/integration \
		--ignore tests/contract/test_compose_images.py -m "not processes" $(ARGS)

docs: setup  ## write the tables of settings, metrics, results and costs into the documents
	$(BIN)/python -m bench.table
	$(BIN)/python docs/tables.py
	$(BIN)/python -m bench.autoscaling
	$(BIN)/python k8s/prometheus_rule.py

format: setup  ## mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what setup made
	rm -rf $(VENV)
