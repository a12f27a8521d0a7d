# Everything a newcomer needs: 'make demo' and 'make test'. Both set the machine up on first use.
SHELL := /bin/bash
.DEFAULT_GOAL := help
unexport PYTHONDONTWRITEBYTECODE # where it is set, every process would compile all that it imports
ARGS ?=
ONLY ?=
EXAMPLES ?= 25
SECONDS ?= 60
export MYPY_CACHE_DIR ?= $(or $(EOD_CACHE),$(HOME)/.cache/eod)/mypy# of all checkouts: it knows files by their content
PY := .venv/bin/python
TESTBED := PYTHONPATH=tests $(PY) -m testbed
PYTEST := .venv/bin/pytest -n 4 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

.PHONY: help setup demo test test-slow test-all test-dates e2e test-unit test-contract test-integration fuzz fuzz-fix hostile lint format types layers check bench bench-quick bench-parts bench-before bench-startup bench-regulatory bench-operator \
        bench-decision bench-scaler-real simulate simulate-quick \
        testbed-up testbed-down testbed-status stages-up stages-down testbed-fetch protos crd fix-dictionaries chart-docs settings charts lock audit image \
        kind-up kind-down clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  \033[36m%-18s\033[0m %s\n", $$1, $$2}'

setup: ## make .venv from the lock (cached; needs no network the second time)
	@tools/bootstrap.sh

demo: setup ## play a market close in one process and reconcile it (ARGS="--seed 7 --corrupt 0.01")
	@.venv/bin/eod demo $(ARGS)

test: setup ## the quick tests, on real Kafka, Redis, S3 and Kubernetes: every promise at least once (ARGS="-k name")
	@$(TESTBED) fetch
	@EOD_EXAMPLES=$(EXAMPLES) $(PYTEST) -m "not slow" $(ARGS)

test-slow: setup ## what takes longer or plays a theme again: storms, soaks, frozen workers; every property with all its examples
	@$(TESTBED) fetch
	@$(PYTEST) -m "slow or hypothesis" $(ARGS)

test-all: setup ## both
	@$(TESTBED) fetch
	@$(PYTEST) $(ARGS)

test-unit: setup ## the tests that need no server
	@EOD_EXAMPLES=$(EXAMPLES) $(PYTEST) tests/unit -m "not slow" $(ARGS)

test-dates: setup ## the unit tests on eight dates: holidays, half days, changes of the clock (ARGS="--only 2028-02-29")
	@EOD_EXAMPLES=$(EXAMPLES) $(PY) tools/test_dates.py $(ARGS)

test-contract: setup ## every adapter against the contract of its port
	@$(PYTEST) tests/contract $(ARGS)

test-integration: setup ## the stages and the operator on real servers
	@$(TESTBED) fetch
	@$(PYTEST) tests/integration $(ARGS)

fuzz: setup ## random FIX streams and books, with and without the kernel, by a seed and led by coverage (SECONDS=300 each)
	@PYTHONPATH=tests $(PY) -m fuzz executions --seconds $(SECONDS) $(ARGS)
	@PYTHONPATH=tests $(PY) -m fuzz ledger --seconds $(SECONDS) $(ARGS)
	@mkdir -p build/fuzz/executions
	@PYTHONPATH=tests $(PY) -m fuzz.guided -max_total_time=$(SECONDS) -artifact_prefix=build/fuzz/ build/fuzz/executions

fuzz-fix: setup ## mutated, truncated, interleaved and endless streams against a live acceptor, beside a session that behaves (SECONDS=300)
	@PYTHONPATH=tests $(PY) -m fuzz acceptor --seconds $(SECONDS) $(ARGS)

hostile: setup ## what hostile bytes cost an ingestion of its own, beside good ones and a neighbour (minutes)
	@$(PYTEST) -n 0 tests/hostile -s -m slow $(ARGS)

e2e: setup charts ## install everything on a kind cluster, play the close on it, kill, upgrade, uninstall (root; minutes)
	@PYTHONPATH=tests $(PY) -m testbed.kind
	@EOD_RUNTIME=1 EOD_WHEELS=build/wheels tools/bootstrap.sh
	@PYTHONPATH=tests $(PY) -m testbed.network $(PY) -m pytest tests/e2e -x -v -s $(ARGS)

lint: setup ## ruff: every rule, and the format; yamllint of charts, CRD and examples
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/yamllint --strict .

format: setup ## format the code and mend what can be mended
	@.venv/bin/ruff check --fix --quiet . ; .venv/bin/ruff format .

types: setup ## mypy, strict
	@mkdir -p $(MYPY_CACHE_DIR)
	@$(if $(shell command -v flock),flock $(MYPY_CACHE_DIR)/.lock) $(SHELL) -c '.venv/bin/mypy && MYPYPATH=tests .venv/bin/mypy --strict -p testbed -p tds -p e2e'

layers: setup ## the import contracts
	@.venv/bin/lint-imports

check: lint types layers ## lint, types and layers

bench: setup ## measure the hot path of a close beside QuickFIX/J and Kafka Streams (ARGS="--only fix,ingest --runs 3")
	@$(TESTBED) fetch --only kafka,redis,peers
	@PYTHONPATH=tests:bench $(PY) -m close $(ARGS)

bench-quick: setup ## the same, small and once, in under three minutes: it shows that all of it works, its numbers mean little
	@$(TESTBED) fetch --only kafka,redis,peers
	@PYTHONPATH=tests:bench $(PY) -m close --quick $(ARGS)

bench-before: setup ## the whole path and the start of each worker, beside an earlier checkout (BEFORE=its folder; run 'make setup' there)
	@test -n "$(BEFORE)" || { echo "BEFORE=FOLDER is wanted: another checkout, after 'make setup' in it"; exit 2; }
	@$(TESTBED) fetch --only kafka,redis,s3
	@PYTHONPATH=tests:bench $(PY) -m close.before --before $(BEFORE) $(ARGS)
	@PYTHONPATH=tests:bench $(PY) bench/startup.py --before $(BEFORE)

bench-startup: setup ## from the start of each worker until it is ready, beside a bare consumer (ARGS="--runs 5")
	@$(TESTBED) fetch --only kafka,redis,s3
	@PYTHONPATH=tests:bench $(PY) bench/startup.py $(ARGS)

bench-parts: setup ## measure codec, parser and book alone, each against a peer in the same run
	@$(PY) bench/hotpath.py $(ARGS)

bench-regulatory: setup ## SQL Server's store beside bare bulk copy, two writers, a million trades again, a minute away (ARGS="--quick")
	@PYTHONPATH=tests:bench $(PY) bench/regulatory.py $(ARGS)

bench-operator: setup ## measure the operator's bars on a real API server and Kafka (ARGS="--only scale")
	@$(TESTBED) fetch
	@PYTHONPATH=tests:bench $(PY) -m operator_bars $(ARGS)

simulate: setup ## play 16 days with our scaler and with others, each tuned on that very day (minutes; build/simulate)
	@mkdir -p build/simulate
	@.venv/bin/eod simulate --tune --json build/simulate/seeds.json --plots build/simulate $(ARGS)

simulate-quick: setup ## the same with few days, seeds and configurations (under a minute)
	@mkdir -p build/simulate
	@.venv/bin/eod simulate --tune --quick --json build/simulate/seeds.json --plots build/simulate $(ARGS)

bench-decision: setup ## measure one decision of the scaler, at 12 and 256 partitions
	@$(PY) bench/decision.py

bench-scaler-real: setup ## play a close to eod and to real KEDA, and the simulator's prediction (root; 25 min; builds KEDA once: 15)
	@$(TESTBED) fetch --only kafka,kubernetes
	@PYTHONPATH=tests $(PY) -m testbed.keda
	@PYTHONPATH=tests:bench $(PY) -m testbed.network $(PY) -m scaler_real $(ARGS)

testbed-fetch: setup ## get every test server into the cache
	@$(TESTBED) fetch

testbed-up: setup ## start Kafka, Redis, S3 and Kubernetes on loopback and say how to use them (ONLY=kafka,redis)
	@$(TESTBED) up $(if $(ONLY),--only $(ONLY)) $(ARGS)

stages-up: setup ## start all stages on the test bed, play a market to them, say where to look
	@$(TESTBED) stages-up $(ARGS)

stages-down: setup ## end the stages; the servers go on
	@$(TESTBED) stages-down $(ARGS)

testbed-down: setup ## stop them and delete their data (ONLY=kafka)
	@$(TESTBED) down $(if $(ONLY),--only $(ONLY)) $(ARGS)

testbed-status: setup ## which of them run, where
	@$(TESTBED) status $(ARGS)

protos: setup ## generate eod_workers/protos from protos/
	@$(PY) tools/protos.py

crd: setup ## generate the CRD, its chart, its reference, and the operator's rights, from the code
	@$(PY) tools/exchanges.py
	@$(PY) -m eod_operator.api.crd crds/eodpipeline.yaml charts/eod-crds/templates/eodpipeline.yaml
	@$(PY) -m eod_operator.api.reference docs/operator.md
	@$(PY) -m eod_operator.kube.rbac charts/eod-operator/files

settings: setup ## generate docs/settings.md and docs/metrics.md from what reads the settings and counts the metrics
	@.venv/bin/eod settings --markdown > docs/settings.md
	@.venv/bin/eod metrics --markdown > docs/metrics.md

fix-dictionaries: setup ## generate the FIX dictionaries from those that QuickFIX/J ships
	@PYTHONPATH=tests $(PY) tools/fix_dictionaries.py

chart-docs: setup ## generate the READMEs of the charts from their values, by helm-docs
	@PYTHONPATH=tests $(PY) tools/chart_docs.py

charts: setup ## put into charts/eod what it depends on, from the folders beside it (needs no network)
	@PYTHONPATH=tests $(PY) tools/chart_deps.py

lock: ## resolve the dependencies anew (UPGRADE=1 takes newer versions)
	@tools/lock.sh

audit: setup ## look every locked package up for known vulnerabilities (needs a network; 2: not all could be looked up)
	@$(PY) tools/audit.py $(ARGS)

image: ## build the container image with docker (BUILD, BASE, VERSION and TAG may be set; see the Dockerfile)
	@EOD_RUNTIME=1 EOD_WHEELS=build/wheels tools/bootstrap.sh
	docker build $(if $(BUILD),--build-arg BUILD=$(BUILD)) $(if $(BASE),--build-arg BASE=$(BASE)) \
	  --build-arg VERSION=$(or $(VERSION),dev) --build-arg REVISION=$(shell git rev-parse HEAD) --target image -t $(or $(TAG),eod:dev) .

kind-up: setup ## make a local kind cluster with eod in it (ACCEPT_EULA=Y; ARGS=--bare: the cluster alone, for Tilt)
	@tools/kind_up.sh $(ARGS)

kind-down: ## delete that cluster and all in it
	kind delete cluster --name eod

clean: ## delete what was built here (caches outside the checkout stay)
	find workers/eod_workers -name '*.so' -delete
	rm -rf .venv .wheels .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .testbed dist build bench/results charts/*/charts
