# Two commands do everything on a fresh Debian 12: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SUDO   := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: setup dev demo run test promises sim soak fuzz audit lint bench docs lock clean servers

PIP    := $(BIN)/pip install --quiet --disable-pip-version-check

setup: $(VENV)/.ready  ## virtual environment with the locked dependencies of the daemon

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq python3-venv && $(PYTHON) -m venv $(VENV); }
	$(PIP) --require-hashes -r requirements.lock
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

dev: $(VENV)/.dev  ## and those of its tests and checks

$(VENV)/.dev: $(VENV)/.ready requirements-dev.lock
	$(PIP) --require-hashes -r requirements-dev.lock
	@touch $@

demo: setup  ## simulated exchanges on loopback and the daemon on them; Ctrl-C stops
	$(BIN)/sqfd demo

run: setup  ## the daemon with ./sqfd.toml
	$(BIN)/sqfd run -c sqfd.toml

servers:  # influxd, redis-server, victoria-metrics from Debian for the tests; nothing is started as a service
	@missing=""; for pair in influxd:influxdb redis-server:redis-server victoria-metrics:victoria-metrics chromium:chromium; do \
	  command -v $${pair%%:*} >/dev/null || missing="$$missing $${pair##*:}"; done; \
	[ -z "$$missing" ] || { echo "installing$$missing from Debian"; \
	  $(SUDO) apt-get update -qq && \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing >/dev/null; }

test: dev servers  ## everything but soaks and fuzzing; the daemons of tests/real get a fresh interpreter, and the machine to themselves
	$(BIN)/python -m pytest -q --ignore=tests/real
	$(BIN)/python -m pytest -q tests/real

promises: dev servers  ## the tests that docs/promises.md names, with how many cases ran and how long they took
	$(BIN)/python -m tests.promises

MINUTES ?= 30
soak: dev servers  ## rounds of faults for MINUTES: the daemon between real servers; a failing round is named
	$(BIN)/python -m tests.real.installation --minutes $(MINUTES)
	SQFD_SOAK=1 $(BIN)/python -m pytest -q -rP tests/real/test_rollups.py

SEEDS ?= 0:60
HOURS ?= 1
CUTS  ?= 6
sim: dev  ## the whole daemon in virtual time, SEEDS × HOURS with faults of every kind; feeds alone; a failing seed is named
	$(BIN)/python -m tests.simulation day --seeds $(SEEDS) --hours $(HOURS)
	$(BIN)/python -m tests.simulation feeds --seeds $(SEEDS) --cuts $(CUTS)

SECONDS ?= 10
fuzz: dev  ## each parser for SECONDS by atheris, guided by coverage; what breaks one becomes a test
	$(PIP) atheris
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

audit: dev  ## the locked packages against the list of known vulnerabilities (needs the network)
	$(PIP) pip-audit || { echo "audit: pip-audit cannot be installed without the network; nothing was checked"; exit 1; }
	$(BIN)/python deploy/audit.py requirements.lock requirements-dev.lock

lint: dev  ## ruff, mypy (--strict for sqfd and exchanges, calls in tests and benchmarks), import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: dev servers  ## benchmarks; tables and JSON under benchmarks/results
	$(BIN)/python -m benchmarks

docs: setup  ## make the generated documents and the reference file again
	$(BIN)/python -m sqfd.cli.documents cli > docs/cli.md
	$(BIN)/python -m sqfd.cli.documents settings > docs/settings.md
	$(BIN)/sqfd exchanges --markdown > docs/exchanges.md
	$(BIN)/sqfd config reference > sqfd.toml

COMPILE = $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-emit-options \
  --no-header --no-annotate --extra build
lock: setup  ## refresh the lock files (hashed, without index addresses)
	$(PIP) pip-tools
	$(COMPILE) -o requirements.lock pyproject.toml
	$(COMPILE) --extra dev --extra parquet --extra sweep -o requirements-dev.lock -c requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
