# Two commands do everything on a machine with Python 3.11, make and git: `make quickstart` and `make test`.

SHELL  := bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input --no-compile -c constraints.txt
# pip would do it on one core. Packages bring files for other versions of Python, which do not compile.
COMPILE := $(BIN)/python -W ignore -m compileall -qq -j 0 $(VENV)/lib || true

# These start servers, Ray or long trainings, so those of a file share them. Files run in the order of tests/conftest.py,
# the longest first, and not in xdist's own, which begins with those of many tests.
HEAVY  := slow or services or browser
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
BYFILE := --dist loadfile --no-loadscope-reorder

# Where it is set, each of the hundreds of processes compiles our modules, and the tests, anew.
unexport PYTHONDONTWRITEBYTECODE

# Stamps: what was installed, so that a second run installs nothing.
RUNS   := $(VENV)/.installed
TESTS  := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.PHONY: help venv quickstart test simulate test-cluster bench seeds-as-shipped damage mutants tour nightly check check-infra docs pictures fmt stack clean chromium network

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

venv: $(RUNS)  ## create .venv with all that the tour uses: training, face crops, the prediction page, the local stack

quickstart: $(RUNS)  ## run the example sweep and show its leaderboard
	$(BIN)/agr submit sweeps/quickstart.yaml
	@echo && $(BIN)/agr leaderboard quickstart && \
	printf '\nNext, try:\n' && \
	printf '  $(BIN)/agr %s\n' "show best       # settings, figures, distance to the others of the best trial" \
		"rerun best      # train it again and compare, to the last bit" "ui              # browse all of it in MLflow"

test: $(TESTS) chromium check  ## install what tests need, then lint, types, import contract, tests
	@mkdir -p build
	$(PYTEST) -n 2 -m "not ($(HEAVY) or cluster)" | tee build/tests.log
	$(PYTEST) -n 2 $(BYFILE) -m "($(HEAVY)) and not (cluster or nightly or alone)"
	$(PYTEST) -m alone
	@echo "and before, the quick ones:" && tail -n 1 build/tests.log

seeds-as-shipped: $(TESTS)  ## submit files of sweeps/seeds without a profile, on drawn data (FILES="s1_caffe s4_bins" SEED=7, else all)
	$(BIN)/python -m tests.parts.seeds $(FILES) $(if $(SEED),--seed $(SEED))

damage: $(TESTS)  ## damage files of sweeps at random and look at what the commands show (CASES=2000 SEED=1)
	$(BIN)/python -m tests.damage.damage --cases $(or $(CASES),2000) --seed $(or $(SEED),1)

mutants: $(TESTS)  ## change SAMPLE=200 places of sweep/ and journal/, one at a time, and see whether a test fails (SEED=1)
	$(BIN)/python -m tests.mutants.mutants --sample $(or $(SAMPLE),200) --seed $(or $(SEED),1)

tour: $(TESTS)  ## run the commands of README and of every page of the documents, in a clean clone of HEAD (PAGES="docs/start.md ...")
	$(BIN)/python -m tests.docs.tour $(PAGES)

nightly: test seeds-as-shipped damage mutants tour  ## all that is too long for every change
	$(PYTEST) -n 2 -m nightly
	$(BIN)/python tests/benchmarks/rerun_across.py 0bd540d  # recorded by version 0.1.0

simulate: $(TESTS)  ## run SEEDS=1000 sweeps with faults under a simulated clock, and print what was tried and found
	$(BIN)/python -m orchestrator.simulation --seeds 0-$$(( $(or $(SEEDS),1000) - 1 ))

test-cluster: $(TESTS) network  ## sweeps on several nodes, killed, cut off and drained (needs root)
	$(PYTEST) -n 2 $(BYFILE) -m cluster tests/cluster tests/integration

bench: $(TESTS)  ## run every benchmark, and print figures, goals, and which are held (about an hour)
	$(BIN)/python tests/benchmarks/bench.py

check-infra: $(TESTS)  ## read infra/ with the tools it is written for, in a venv of their own
	PYTHON=$(PYTHON) BIN=$(BIN) infra/check.sh

check: $(TESTS) docs  ## lint, types, import contract, documents
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(TESTS)  ## build the site of the documents into build/site; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

pictures: $(TESTS) chromium  ## make the pictures of the documents: about ten minutes
	$(BIN)/python docs/pictures.py

fmt: $(TESTS)  ## format, and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

stack: $(RUNS)  ## start PostgreSQL, S3 and MLflow on this machine
	$(BIN)/agr stack up

clean:  ## remove caches and build products; .venv stays
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON). Install Python 3.11 with venv, or name yours: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUNS): $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing into $(VENV): several minutes the first time"
	$(PIP) -e '.[crop,serve,services]'
	@$(COMPILE)
	@touch $@

$(TESTS): $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing into $(VENV), for tests too: several minutes the first time"
	$(PIP) -e '.[dev]'
	@$(COMPILE)
	@touch $(RUNS) $@

# The cluster tests make machines out of network namespaces, some of them behind NAT, with WireGuard and SSH.
network:
	@for program in ip iptables wg-quick wireguard-go dropbear ssh rsync; do command -v $$program >/dev/null || missing=1; done; \
	if [ -n "$${missing:-}" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing what the cluster tests need of the system"; \
		export DEBIAN_FRONTEND=noninteractive; \
		apt-get -qq update && apt-get -qq install --no-install-recommends \
			iproute2 iptables wireguard-tools wireguard-go dropbear-bin openssh-client rsync >/dev/null; \
	fi

# The browser test drives a real Chromium.
chromium:
	@for browser in chromium chromium-browser google-chrome; do command -v $$browser >/dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing chromium"; \
		export DEBIAN_FRONTEND=noninteractive; \
		apt-get -qq update && apt-get -qq install --no-install-recommends chromium >/dev/null; \
	else \
		echo "The browser test needs Chromium. Install it (Debian: apt-get install chromium) and run make test again." >&2; \
		exit 1; \
	fi
