# Needs Python 3.11 or later (PYTHON names another one); everything else comes into .venv.
PYTHON ?= python3
WHEELS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/forestall/wheels
BIN := .venv/bin
LOCK := $(BIN)/uv pip compile -q --universal --generate-hashes --upgrade --custom-compile-command "make lock"

.PHONY: demo serve test check format bench e2e soak docs fuzz lock clean

demo: .venv/ready  ## Show how the real server rejects, patches and warns of the incidents' manifests. Ends by itself.
	@$(BIN)/python -m demo

serve: .venv/ready  ## Keep the demo's server running, and print the command that sends it a file of yours.
	@$(BIN)/python -m demo serve

test: .venv/ready
	$(BIN)/python -m pytest -n auto --ignore tests/e2e --ignore tests/browser

check: .venv/ready  ## Format, lint, types.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/ready  ## Measure the figures of docs/performance.md.
	$(BIN)/python bench/run.py

FUZZ_SECONDS ?= 120
export FUZZ_SEED
fuzz: .venv/ready  ## Try mutated requests and files for FUZZ_SECONDS (FUZZ_SEED repeats a run); those that break something are kept in tests/data/fuzz.
	$(BIN)/python -m tests.fuzz $(FUZZ_SECONDS)

# Where KUBEBUILDER_ASSETS doesn't name the folder of the control plane's programs, they are built if their recipe lies
# beside the checkout; else the tests say so and skip.
e2e: export KUBEBUILDER_ASSETS ?= $(shell test ! -x ../shared/cluster/build || ../shared/cluster/build)
e2e: .venv/ready
	$(BIN)/python -m pytest tests/e2e -n 2 --dist loadfile

SOAK_SECONDS ?= 3600
soak: export KUBEBUILDER_ASSETS ?= $(shell test ! -x ../shared/cluster/build || ../shared/cluster/build)
soak: .venv/ready  ## Repeat the faults of tests/e2e/test_faults.py for SOAK_SECONDS, in front of a real API server.
	SOAK_SECONDS=$(SOAK_SECONDS) $(BIN)/python -m pytest tests/e2e/test_faults.py

docs: .venv/ready  ## Write the parts of docs and chart that follow from the code: tables, schema, roles, pictures.
	$(BIN)/python -m docs.generate

lock: .venv/ready  ## Write the locks that the image is built from: the newest versions allowed, with their hashes.
	$(BIN)/pip install -q uv
	echo hatchling setuptools wheel | tr ' ' '\n' | $(LOCK) --output-file requirements-build.lock -
	$(LOCK) --output-file requirements.lock pyproject.toml

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

# pip's own cache is of no use without a network, since the index is asked first. So the wheels are kept beside it, and
# the next .venv is made from them alone.
install = $(BIN)/pip install -q --no-index --find-links $(WHEELS) $(1) 2> /dev/null || { \
	  $(BIN)/pip wheel -q --wheel-dir $(WHEELS) $(1) && \
	  $(BIN)/pip install -q --no-index --find-links $(WHEELS) $(1); }

.venv/ready: pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.version_info < (3, 11) and sys.exit("Python 3.11 or later: make PYTHON=...")'
	@echo "Making .venv, once: up to a minute"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb")); \
	  print(*p["project"]["dependencies"], *p["dependency-groups"]["dev"], sep="\n")' > .venv/requirements.txt
	@$(call install,-r .venv/requirements.txt)
	@$(BIN)/pip install -q --no-index --no-deps --no-build-isolation --editable .
	@touch $@
