# Everything runs in .venv, which `make .venv` fills from the committed lock.
PYTHON ?= python3
BIN := .venv/bin
STAGES ?= attack
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
# Set in some containers; then each of the hundreds of processes of a test run compiles all sources again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help check docs sync-client test test-fast test-faults test-audits test-long test-gpu gpu-bundle images compose-test selftest paper serve demo worker doctor bench chaos lock sbom clean

help:  ## list these targets
	@grep -E '^[a-z.-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

.venv: requirements/all.lock setup.py  ## install the locked requirements
	deploy/local/install.sh $(PYTHON)
	@touch .venv

check: .venv  ## check style, types, import contracts and generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m tests.support.sync_client --check

docs: .venv  ## build the documentation site in site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "open site/index.html"

sync-client: .venv  ## write services/client/sync_client.py, which is generated from async_client.py
	$(BIN)/python -m tests.support.sync_client

# Six, not two: tests of processes also wait. In the order of tests/conftest.py: slow files first.
test: .venv  ## run the whole test suite
	$(BIN)/pytest -n 6 --dist loadfile --no-loadscope-reorder

test-fast: .venv  ## run the tests that start no servers (within 3 min): units, contracts on SQLite, architecture, gateway, command line
	$(BIN)/pytest -n 3 --dist loadfile -m 'not long and not slow' tests/architecture tests/golden tests/unit tests/contract tests/integration

test-faults: .venv  ## run storms of faults and the longer tests of killed processes (about 15 min)
	$(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder -m long tests/chaos tests/integration/test_operations.py tests/integration/test_plugins_dropped_in.py tests/integration/test_serve_processes.py

test-audits: .venv  ## run the demo and a small paper (about 6 min)
	$(BIN)/pytest -n 2 --dist loadfile -m long tests/integration/test_demo.py tests/integration/test_paper.py

test-long: .venv  ## run all tests that take minutes, those of test-faults and test-audits too
	$(BIN)/pytest -m long

# 5: nothing was selected
test-gpu: .venv  ## run the tests that need a GPU (PALIMPSEST_TEST_DEVICE=cpu runs most of them on the CPU)
	$(BIN)/python -m pytest -m gpu tests/gpu || test $$? -eq 5

gpu-bundle: .venv  ## put what tests/gpu/run.sh needs on a machine with a GPU into gpu-bundle/ (VERSION=3.12: its Python)
	tests/gpu/bundle.sh $(BIN)/python $(VERSION)

# the labels say what was built; an index with other builds of torch is named by TORCH_INDEX
images: .venv  ## build both images with the version that git gives, see deploy/README.md
	VERSION="$$($(BIN)/python setup.py --version)" REVISION="$$(git rev-parse HEAD)" \
		SOURCE="$$(git remote get-url origin 2>/dev/null)" docker compose build

compose-test: .venv  ## prove docker-compose.yml on the Docker engine that DOCKER_HOST names (about 20 min)
	@$(BIN)/python -m tests.compose $(ARGS)

selftest: .venv  ## run the code on cases with a known answer
	@$(BIN)/python -m workers.selftest

serve: .venv  ## run a complete Palimpsest on this machine until Ctrl-C
	@$(BIN)/python -m deploy.local.serve

demo: .venv  ## run a complete audit (about three minutes); its report is in .palimpsest/demo
	@$(BIN)/python -m deploy.local.demo $(ARGS)

worker: .venv  ## add a worker to a running make serve: make worker STAGES=attack
	@$(BIN)/python -m deploy.local.worker $(STAGES)

paper: .venv  ## repeat the paper's experiments on CIFAR-10 and two tables, see docs/results.md (ARGS=--full on a GPU)
	$(BIN)/python -m benchmarks.paper $(ARGS)

doctor: .venv  ## check the system that `make serve` runs
	@$(BIN)/python -m deploy.local.doctor

bench: .venv  ## measure the throughput and latency of the queue, and leakage
	$(BIN)/python -m benchmarks.engine
	$(BIN)/python -m benchmarks.leak

chaos: .venv  ## inject faults into a running system: make chaos ARGS="--seed 1 --store postgresql --minutes 25"
	@$(BIN)/python -m tests.chaos.storm $(ARGS)

# Versions that still fit stay as they are; ARGS=-U takes the newest of all.
COMPILE = $(BIN)/uv pip compile pyproject.toml --python-version 3.11 --no-emit-index-url --no-annotate --quiet $(ARGS)

lock: .venv  ## lock the requirements of pyproject.toml (ARGS=-U upgrades all of them)
	$(BIN)/pip install -q uv
	$(COMPILE) --all-extras -o requirements/all.lock
	$(COMPILE) --extra gateway --extra otel -c requirements/all.lock -o requirements/gateway.lock
	$(COMPILE) --extra worker --extra otel -c requirements/all.lock -o requirements/worker.lock

# Validated against the schema of CycloneDX as it is written; the tool needs no place in .venv.
sbom: .venv  ## write what both images are made of, in the format CycloneDX, to dist/sbom
	$(BIN)/pip install -q uv
	mkdir -p dist/sbom
	for image in gateway worker; do \
		$(BIN)/uv tool run --from cyclonedx-bom==7.5.0 cyclonedx-py requirements requirements/$$image.lock \
			--pyproject pyproject.toml --validate --output-reproducible -o dist/sbom/$$image.cdx.json || exit 1; \
	done

clean:  ## remove the environment, all state of make serve, and caches
	rm -rf .venv .palimpsest site build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
