# Needs Python 3.11 to 3.13 and git; `make setup` installs everything else in .venv.
PYTHON ?= $(shell for v in 3.11 3.12 3.13; do command -v python$$v && break; done || command -v python3)
# CPU wheels if pip finds them; `make setup TORCH=torch==2.13.0` takes the platform's own build, and
# PIP_EXTRA_INDEX_URL names an index with the CPU wheels.
TORCH ?= torch==2.13.0+cpu
TORCH_ELSE ?= torch==2.13.0
VENV := .venv
SIDE_BY_SIDE := tests/unit tests/fuzz tests/integration tests/learning
BIN := $(VENV)/bin
SETUP := $(VENV)/.complete
TOOLS := .tools
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
export OMP_NUM_THREADS ?= 1

.PHONY: help setup train test test-fast faults check docs format clean
.PHONY: fuzz lock sbom audit
.PHONY: bench bench-target bench-encryption bench-games bench-rivals up down

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

setup: $(SETUP)  ## make .venv with pinned dependencies

# All but torch with hashes: its builds have one version, but other files in other indexes.
$(SETUP): pyproject.toml constraints.txt requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(PYTHON) docker/requirements.py dev build > $(VENV)/requirements.txt
	$(PIP) --require-hashes -r $(VENV)/requirements.txt
	$(PIP) -c constraints.txt "$(TORCH)" 2>/dev/null || $(PIP) -c constraints.txt "$(TORCH_ELSE)"
	$(PIP) --no-build-isolation --no-deps -e .
	@touch $@

train: setup  ## learn Pong with 2 actors; ARGS="--mode gradients --max-minutes 5"
	$(BIN)/asyncade train $(ARGS)

# What starts no processes runs on two cores.
test: check  ## check, then all tests; ARGS="tests/unit -k name" runs some
ifdef ARGS
	$(BIN)/python -m pytest $(ARGS)
else
	$(BIN)/python -m pytest -n 2 -m "not faults_long" $(SIDE_BY_SIDE)
	$(BIN)/python -m pytest -m "not faults_long" $(SIDE_BY_SIDE:%=--ignore %)
endif

faults: setup  ## kills, full disks, lost networks, load: hostile actors, all of it: under 30 minutes
	$(BIN)/python -m pytest tests/faults tests/learning/test_hostile_actors.py $(ARGS)

test-fast: setup  ## unit, contract and integration tests, no containers: under three minutes
	$(BIN)/python -m pytest tests/unit tests/contract tests/fuzz tests/integration -m "not processes" \
		--ignore tests/contract/test_compose_images.py $(ARGS)

check: setup  ## lint, types, import rules, generated tables
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy bench
	$(BIN)/mypy examples
	$(BIN)/lint-imports
	$(BIN)/python docs/tables.py --check
	$(BIN)/python k8s/prometheus_rule.py --check

docs: setup  ## write the generated tables of settings and metrics, and the PrometheusRule
	$(BIN)/python docs/tables.py
	$(BIN)/python k8s/prometheus_rule.py

format: setup  ## fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove .venv
	rm -rf $(VENV)

bench: setup  ## efficiency, wire and intake on this machine: a quarter of an hour
	$(BIN)/python -m bench.pipeline $(ARGS)
	$(BIN)/python -m bench.wire $(ARGS)
	$(BIN)/python -m bench.intake $(ARGS)

bench-target: setup  ## time to the target, both modes: hours; continues after an interruption
	$(BIN)/python -m bench.time_to_target --mode data $(ARGS)
	$(BIN)/python -m bench.time_to_target --mode gradients $(ARGS)

bench-encryption: setup  ## cost of CURVE: two minutes
	$(BIN)/python -m bench.encryption $(ARGS)

bench-games: setup  ## Breakout, Freeway and Boxing against random play: half an hour
	$(BIN)/python -m bench.games $(ARGS)

bench-rivals: setup  ## other implementations on this machine, each in its own environment
	$(BIN)/python -m bench.rivals.run $(ARGS)

fuzz: setup  ## search for inputs that break a reader: half an hour; ARGS="--minutes 60"
	$(PYTHON) docker/requirements.py fuzz > $(VENV)/fuzz.txt
	$(PIP) --require-hashes -r $(VENV)/fuzz.txt
	PYTHONPATH=tests $(BIN)/python -m fuzz all $(ARGS)

$(TOOLS)/.complete: docker/tools.lock
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

lock: $(TOOLS)/.complete  ## write requirements.lock and docker/tools.lock; needs the package index
	$(PYTHON) docker/lock.py $(TOOLS)/bin/uv

sbom: setup $(TOOLS)/.complete  ## list what .venv holds, with licences: sbom.cdx.json
	$(TOOLS)/bin/cyclonedx-py environment $(VENV) --pyproject pyproject.toml \
		--output-reproducible -o sbom.cdx.json

audit: $(TOOLS)/.complete  ## known vulnerabilities of the pinned packages; needs pypi.org
	$(TOOLS)/bin/pip-audit --strict --disable-pip --no-deps -r constraints.txt

up:  ## run in containers, with Grafana and Prometheus; ARGS="--scale actor=4"
	docker compose up $(ARGS)

down:  ## stop the containers; runs and metrics stay
	docker compose --profile '*' down $(ARGS)
