# Kaima. `make demo` shows everything; `make test` checks it. Nothing is installed outside .venv.
#
#   make demo [DATA= LABEL= LABELS= UNIT=person|record EPSILON= DELTA=
#              TIER=public|registered|enclave GENERATOR= KEEP=1]
#   make demo SCHEMA=example|example-images|SCHEMA=schema.toml DATA=table.csv|.parquet|joint.zip
#   make test   make test-slow   make lint   make serve

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.kaima-installed
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install demo serve test test-slow lint

help:
	@sed -n '3,7s/^# \{0,1\}//p' Makefile

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh deploy/install.sh
	@touch $(STAMP)

demo: $(STAMP)
	@$(BIN)/kaima demo \
	  $(if $(DATA),--data "$(DATA)") $(if $(SCHEMA),--schema "$(SCHEMA)") $(if $(LABEL),--label "$(LABEL)") \
	  $(if $(LABELS),--labels "$(LABELS)") $(if $(UNIT),--unit "$(UNIT)") \
	  $(if $(EPSILON),--epsilon "$(EPSILON)") $(if $(DELTA),--delta "$(DELTA)") \
	  $(if $(TIER),--tier "$(TIER)") $(if $(GENERATOR),--generator "$(GENERATOR)") \
	  $(if $(KEEP),--keep)

serve: $(STAMP)
	@$(BIN)/kaima serve

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m workers.catalogue --check
	$(BIN)/python -m workers.published --check

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not gpu" -n $(JOBS) --dist loadgroup

test-slow: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "slow and not gpu" -n $(JOBS) --dist loadgroup
