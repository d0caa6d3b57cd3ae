# noisesweep: `make sweep` runs a study, `make test` checks the project, `make help` lists the rest.
PYTHON  ?= python3
STUDY   ?= jobs/article.toml
RECIPE  ?= models/mnist_tf2_fw.toml
MODEL   ?= models/mnist_tf2_fw.h5
DATASET ?= models/data/mnist.npz
RUN     ?= results/article
ADDRESS ?= $(RAY_ADDRESS)
CHAOS   ?= tests/chaos tests/storage
ARGS    ?=
JAX     ?= jax
COVERAGE ?=

BIN     := .venv/bin
.DEFAULT_GOAL := help

STUDIES := dataflow devices faults sensitivity
HARDENING := clean noise bits
SEEDS   ?= 1
TINY := depthwise residual autoencoder keywords
REFERENCE := article $(STUDIES) trainings

.PHONY: help install sweep $(STUDIES) trainings hardening crosssim allocation residual tiny report notebook reference train bench bench-gpu test test-chaos test-slow test-cluster capacity lint docs clean

help:  ## List the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

# One stamp a set of dependencies: installing is a no-op until pyproject.toml or constraints.txt change.
.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "noisesweep needs Python 3.11 to 3.13; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml constraints.txt | .venv/bin/pip
	@echo "installing noisesweep into .venv (once; some minutes)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

.venv/installed-docs: .venv/installed
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	@touch $@

install: .venv/installed  ## Make .venv with everything that a sweep needs.

sweep: .venv/installed  ## Run STUDY (jobs/article.toml), print its table, write figures and report.
	@$(BIN)/sweep run $(STUDY) $(if $(ADDRESS),--address $(ADDRESS)) $(ARGS)

$(STUDIES): .venv/installed  # see jobs/*.toml
	@$(BIN)/sweep run jobs/$@.toml $(if $(ADDRESS),--address $(ADDRESS)) $(ARGS)

dataflow:     ## Run jobs/dataflow.toml: images and activations in few bits.
devices:      ## Run jobs/devices.toml: phase-change and resistive memories.
faults:       ## Run jobs/faults.toml: stuck cells, flipped bits, open lines.
sensitivity:  ## Run jobs/sensitivity.toml: one layer at a time.

report: .venv/installed  ## Write the report of RUN (results/article), one HTML page.
	@$(BIN)/sweep report $(RUN)

notebook: .venv/installed  ## Run results/analysis.ipynb on RUN (results/article); the result goes into that folder.
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[notebook]'
	@cp results/analysis.ipynb $(RUN)/analysis.ipynb
	@RUN=$(abspath $(RUN)) $(BIN)/jupyter execute --inplace $(RUN)/analysis.ipynb

trainings: .venv/installed  ## Train ten networks, then run jobs/trainings.toml: trainings against chips.
	@$(BIN)/sweep train models/trainings.toml --seeds 10
	@$(BIN)/sweep run jobs/trainings.toml $(if $(ADDRESS),--address $(ADDRESS)) $(ARGS)

hardening: .venv/installed  ## Train the shipped network on, as it was, against noise and with few bits; run jobs/hardening.toml.
	@for way in $(HARDENING); do $(BIN)/sweep train models/hardening-$$way.toml --seeds $(SEEDS) || exit; done
	@$(BIN)/sweep run jobs/hardening.toml $(if $(ADDRESS),--address $(ADDRESS)) $(ARGS)

crosssim: .venv/installed  ## Train the network of CrossSim's tutorial as usual and against its devices' errors; run jobs/crosssim.toml.
	@for way in clean noise; do $(BIN)/sweep train models/crosssim-$$way.toml --seeds $(SEEDS) || exit; done
	@$(BIN)/sweep run jobs/crosssim.toml $(if $(ADDRESS),--address $(ADDRESS)) $(ARGS)

allocation: .venv/installed  ## Find which layer needs which bits under noise, and how much noise may be: jobs/allocation.toml, tolerance.toml.
	@$(BIN)/sweep allocate jobs/allocation.toml $(ARGS)
	@$(BIN)/sweep tolerate jobs/tolerance.toml $(ARGS)

residual: .venv/installed  ## Train a residual network on 32×32 images; how much noise, and which bits where: jobs/resnet8.toml. Half an hour.
	@$(BIN)/sweep train models/resnet8.toml
	@$(BIN)/sweep tolerate jobs/resnet8.toml --family gaussian --precision 5 $(ARGS)
	@$(BIN)/sweep allocate jobs/resnet8.toml --family "bits, then gaussian" $(ARGS)

tiny: .venv/installed  ## Run jobs/tiny-*.toml: networks of the kinds that microcontrollers run.
	@for name in $(TINY); do \
	  $(BIN)/sweep run jobs/tiny-$$name.toml $(if $(ADDRESS),--address $(ADDRESS)) $(ARGS) || exit; done

reference: .venv/installed  ## Make results/reference again: the shipped studies with up to 1,000 seeds (an hour or two).
	@$(BIN)/sweep train models/trainings.toml --seeds 10
	@for name in $(REFERENCE); do \
	  case $$name in trainings) seeds=100;; dataflow) seeds=300;; *) seeds=1000;; esac; \
	  $(BIN)/sweep run jobs/$$name.toml --seeds $$seeds --out results/reference-runs/$$name && \
	  $(BIN)/sweep export results/reference-runs/$$name results/reference/$$name && \
	  (cd results/reference/$$name && rm -f *.json *.parquet *.tex *.png) || exit; done

train: .venv/installed  ## Train the shipped network again from RECIPE.
	@$(BIN)/sweep train $(RECIPE) $(ARGS)

bench: .venv/installed  ## Measure how fast trials run here: MODEL on DATASET, and a ResNet-20.
	@$(BIN)/sweep bench $(MODEL) $(DATASET) $(ARGS)

bench-gpu: .venv/installed  ## Measure by JAX what runs on a GPU; JAX=jax-gpu installs its CUDA libraries, too.
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$(JAX)]'
	@$(BIN)/python -m sweep.bench.gpu --model $(MODEL) --dataset $(DATASET) $(ARGS)

test: .venv/installed-dev  ## Run the tests but the slow; COVERAGE=1 measures which branches they take, and fails below the floor.
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" $(if $(COVERAGE),--cov=sweep) $(ARGS)

test-chaos: .venv/installed-dev  ## Kill workers, nodes, drivers; fill disks; damage shards; half an hour (SWEEP_KILL_RUNS=10: more).
	@SWEEP_LONG=1 $(BIN)/python -m pytest $(CHAOS) $(ARGS)

test-slow: .venv/installed-dev  ## Run the slow ones: all kinds of networks, layers and transforms, not each eighth or third; simulations.
	@$(BIN)/python -m pytest -n 2 -m slow --ignore=tests/chaos $(ARGS)

test-cluster: .venv/installed-dev  ## Run on a real Slurm, nodes in network namespaces, S3 and Azure servers, as far as they are here.
	@SWEEP_CLUSTER=1 $(BIN)/python -m pytest tests/cluster $(ARGS)

capacity: .venv/installed-dev  ## Simulate the driver with 10 to 10,000 workers, for docs/scale.md; a quarter of an hour.
	@$(BIN)/python -m tests.scale.simulation $(ARGS)

lint: .venv/installed-dev  ## Check style (ruff) and types (mypy, strict).
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

docs: .venv/installed-docs  ## Build the documentation pages into site/; a warning is an error.
	@rm -rf site
	@$(BIN)/python -m sphinx -c docs --fail-on-warning --keep-going --quiet . site
	@echo site/index.html

clean:  ## Remove .venv and caches; results stay.
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* site build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
