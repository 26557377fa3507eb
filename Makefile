# Two commands matter: `make run` and `make test`. Each sets up what it needs, once.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup setup-test run test lint clean

TASK ?= red_bottle
ARGS ?=
PYTHON ?= python3

# One thread per process: two spinning OpenMP threads on two busy cores are slower than one.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: ## ROS 2, virtual environment and build, as far as missing
	@$(PYTHON) tools/bootstrap.py

setup-test:
	@$(PYTHON) tools/bootstrap.py --test

run: setup ## one rollout in the simulator: TASK=pot_potato|red_bottle|pink_object
	@source tools/env.sh && flashwam run --task $(TASK) $(ARGS)

test: setup-test ## all tests; ARGS is passed to pytest
	@source tools/env.sh && python -m pytest $(ARGS)

lint: setup-test ## ruff alone
	@source tools/env.sh && python -m ruff check .

clean: ## removes build products, keeps .venv
	rm -rf build install log
