# Everything runs in .venv, which `make .venv` fills from the committed lock.
PYTHON ?= python3
BIN := .venv/bin
STAGES ?= attack
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help check sync-client test test-fast test-long selftest paper serve demo worker doctor bench chaos lock clean

help:  ## show this
	@grep -E '^[a-z.-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

.venv: requirements/all.lock setup.py  ## install what the lock names
	deploy/local/install.sh $(PYTHON)
	@touch .venv

check: .venv  ## style, types, import contracts, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m tests.support.sync_client --check

sync-client: .venv  ## write services/client/sync_client.py, which is generated from async_client.py
	$(BIN)/python -m tests.support.sync_client

# Four, not two: tests of processes mostly wait. In the order of the folders: the long ones come first.
test: .venv  ## the whole suite
	$(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder

test-fast: .venv  ## what tells most in three minutes: units, contracts, architecture, the gateway and the command line
	$(BIN)/pytest -n 4 --dist loadfile -m 'not long and not slow' tests/architecture tests/golden tests/unit tests/contract tests/integration

test-long: .venv  ## what takes minutes
	$(BIN)/pytest -m long

selftest: .venv  ## the code against cases whose answer is known
	@$(BIN)/python -m workers.selftest

serve: .venv  ## a whole Palimpsest on this machine, until Ctrl-C
	@$(BIN)/python -m deploy.local.serve

demo: .venv  ## a whole audit in about five minutes, to its report in .palimpsest/demo
	@$(BIN)/python -m deploy.local.demo $(ARGS)

worker: .venv  ## one more worker for it: make worker STAGES=attack
	@$(BIN)/python -m deploy.local.worker $(STAGES)

paper: .venv  ## the paper's questions on CIFAR-10 and two tables, answered in docs/results.md (ARGS=--full for a GPU)
	$(BIN)/python -m benchmarks.paper $(ARGS)

doctor: .venv  ## is everything well with what `make serve` runs?
	@$(BIN)/python -m deploy.local.doctor

bench: .venv  ## rates and latencies of the queue; the leak figures
	$(BIN)/python -m benchmarks.engine
	$(BIN)/python -m benchmarks.leak

chaos: .venv  ## a storm of faults on a served system: make chaos ARGS="--seed 1 --store postgresql --minutes 25"
	@$(BIN)/python -m tests.chaos.storm $(ARGS)

# Versions that still fit stay as they are; ARGS=-U takes the newest of all.
COMPILE = $(BIN)/uv pip compile pyproject.toml --python-version 3.11 --no-emit-index-url --no-annotate --quiet $(ARGS)

lock: .venv  ## write the requirements that pyproject.toml asks for (ARGS=-U upgrades them all)
	$(BIN)/pip install -q uv
	$(COMPILE) --all-extras -o requirements/all.lock
	$(COMPILE) --extra gateway -c requirements/all.lock -o requirements/gateway.lock
	$(COMPILE) --extra worker -c requirements/all.lock -o requirements/worker.lock

clean:  ## remove what was installed and served
	rm -rf .venv .palimpsest *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
