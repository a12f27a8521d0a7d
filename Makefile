# Everything a newcomer needs: 'make demo' and 'make test'. Both set the machine up on first use.
SHELL := /bin/bash
.DEFAULT_GOAL := help
ARGS ?=
PY := .venv/bin/python
TESTBED := PYTHONPATH=tests $(PY) -m testbed

.PHONY: help setup demo test test-unit test-contract test-integration lint format types layers check bench \
        testbed-up testbed-down testbed-status testbed-fetch protos crd lock image clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  \033[36m%-18s\033[0m %s\n", $$1, $$2}'

setup: ## make .venv from the lock (cached; needs no network the second time)
	@tools/bootstrap.sh

demo: setup ## play a market close in one process and reconcile it (ARGS="--seed 7 --corrupt 0.01")
	@.venv/bin/eod demo $(ARGS)

test: setup ## all tests, on real Kafka, Redis, S3 and Kubernetes (ARGS="-k name")
	@$(TESTBED) fetch
	@.venv/bin/pytest $(ARGS)

test-unit: setup ## the tests that need no server
	@.venv/bin/pytest tests/unit $(ARGS)

test-contract: setup ## every adapter against the contract of its port
	@.venv/bin/pytest tests/contract $(ARGS)

test-integration: setup ## the stages and the operator on real servers
	@$(TESTBED) fetch
	@.venv/bin/pytest tests/integration $(ARGS)

lint: setup ## ruff: every rule, and the format
	@.venv/bin/ruff check . && .venv/bin/ruff format --check .

format: setup ## format the code and mend what can be mended
	@.venv/bin/ruff check --fix --quiet . ; .venv/bin/ruff format .

types: setup ## mypy, strict
	@.venv/bin/mypy && MYPYPATH=tests .venv/bin/mypy --strict -p testbed

layers: setup ## the import contracts
	@.venv/bin/lint-imports

check: lint types layers ## lint, types and layers

bench: setup ## measure codec, parser and P&L against a peer in the same run
	@$(PY) bench/hotpath.py $(ARGS)

testbed-fetch: setup ## get every test server into the cache
	@$(TESTBED) fetch

testbed-up: setup ## start Kafka, Redis, S3 and Kubernetes on loopback and say how to use them
	@$(TESTBED) up $(ARGS)

testbed-down: setup ## stop them and delete their data
	@$(TESTBED) down $(ARGS)

testbed-status: setup ## which of them run, where
	@$(TESTBED) status $(ARGS)

protos: setup ## generate eod_workers/protos from protos/
	@$(PY) tools/protos.py

crd: setup ## generate the CRD, and its copy in the chart, from the API models
	@$(PY) -m eod_operator.api.crd crds/eodpipeline.yaml charts/eod-operator/crds/eodpipeline.yaml

lock: ## resolve the dependencies anew (UPGRADE=1 takes newer versions)
	@tools/lock.sh

image: ## build the container image with docker (BASE and TAG may be set)
	docker build --build-arg BASE=$(or $(BASE),python:3.11-slim-bookworm) -t $(or $(TAG),eod:dev) .

clean: ## delete what was built here (caches outside the checkout stay)
	rm -rf .venv .wheels .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .testbed dist build bench/results
