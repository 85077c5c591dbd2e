# One command each; every target does all of its own set-up.
PYTHON ?= python3
VENV := .venv
# What needs no real parts: on two processes; and the two runtimes, one on each. The rest goes by the clock,
# and has the machine for itself.
FAST := tests/unit tests/histories tests/property
RUNTIMES := tests/conformance/runtime tests/integration/test_faults_for_real.py
REAL := tests/conformance tests/integration $(RUNTIMES:%=--ignore=%)
BIN := $(VENV)/bin
TOXIPROXY_VERSION := 2.12.0
export PATH := $(CURDIR)/.tools/bin:$(PATH)

.PHONY: help setup engine demo test check bench clean
help:
	@echo "make demo    a PostgreSQL primary dies under load while subscribers pay; a verdict"
	@echo "make test    format, lint, types, import layers, all tests"
	@echo "make check   the fast part of it"
	@echo "make bench   performance, as ratios against a named peer"
	@echo "make clean   remove what make made"

setup: $(VENV)/.installed engine

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else f"Ledgerquake needs Python 3.11 to 3.13, this is {v.major}.{v.minor}; try make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[stack,dev]'
	@touch $@

# The real Toxiproxy where Go is; without it the built-in engine does the job.
engine: .tools/bin/.toxiproxy-$(TOXIPROXY_VERSION)
.tools/bin/.toxiproxy-$(TOXIPROXY_VERSION):
	@mkdir -p .tools/bin
	@if command -v toxiproxy-server >/dev/null 2>&1 || [ -n "$$TOXIPROXY_SERVER" ]; then touch $@; \
	elif command -v go >/dev/null 2>&1; then \
	  echo "building Toxiproxy $(TOXIPROXY_VERSION) with Go"; \
	  if GOBIN=$(CURDIR)/.tools/bin go install github.com/Shopify/toxiproxy/v2/cmd/server@v$(TOXIPROXY_VERSION); \
	  then mv .tools/bin/server .tools/bin/toxiproxy-server && touch $@; \
	  else echo "could not build Toxiproxy: the built-in engine will be used"; fi; \
	else echo "no Go here: the built-in engine will be used"; fi

demo: setup
	@$(BIN)/ledgerquake run experiments/db-primary-crash.yaml

check: setup
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/pytest -q -n 2 $(FAST)

test: setup
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/pytest -q -n 2 $(FAST)
	@$(BIN)/pytest -q -n 2 --dist loadgroup $(RUNTIMES)
	@$(BIN)/pytest $(REAL)

bench: setup
	@$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .tools .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build dist
