# Every target sets up .venv first; a stamp file makes that free when nothing changed.
# Needs python3 (3.10 to 3.13), python3-venv and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-stamp
EXTRAS := dev,judge,onnx,demo,sign,report
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: setup test test-train check-generated lint demo bench bench-core firmware wheel lock clean

setup: $(STAMP)

# The lock is resolved for Python 3.11 on Linux and x86-64; elsewhere the ranges of pyproject.toml decide.
LOCK_FITS := import platform, sys; \
    sys.exit((sys.version_info[:2], sys.platform, platform.machine()) != ((3, 11), "linux", "x86_64"))

$(STAMP): pyproject.toml setup.py requirements-dev.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	if $(BIN)/python -c '$(LOCK_FITS)'; then \
	    $(PIP) install -q --require-hashes -r requirements-dev.lock && \
	    $(PIP) install -q --no-deps --no-build-isolation -e . ; \
	else \
	    $(PIP) install -q -e '.[$(EXTRAS)]' ; \
	fi
	touch $@

test: check-generated lint
	$(BIN)/python -m pytest -q -rs

# The tests that need PyTorch, which `make setup` leaves out: on Linux, PyPI's build brings gigabytes for GPUs.
# Where another build of it is installed in .venv already, that one stays.
test-train: $(STAMP)
	$(BIN)/python -c 'import torch' 2>/dev/null || $(PIP) install -q 'torch==2.13.0'
	$(BIN)/python -m pytest -q -rs $(wildcard tests/test_training*.py) tests/test_import_pytorch.py

check-generated: $(STAMP)
	$(BIN)/python -m model_packager.generate --check

# Static checks answer to one set of versions, the lock's: other versions of numpy carry other type stubs.
lint: $(STAMP)
	if $(BIN)/python -c '$(LOCK_FITS)'; then \
	    $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/python firmware/check_types.py ; \
	else \
	    echo "lint: skipped, its versions are locked for Python 3.11 on Linux and x86-64" ; \
	fi

demo: $(STAMP)
	$(BIN)/python examples/digits/demo.py
	$(BIN)/python examples/compressed.py

bench: $(STAMP)
	$(BIN)/python benchmarks/bars.py --measure

# Needs arm-none-eabi-gcc and qemu-system-arm. WRITE=firmware/core/MEASURED.md keeps the tables.
bench-core: $(STAMP)
	$(BIN)/python benchmarks/core_counts.py $(if $(WRITE),--write $(WRITE))

# The C firmware of every board that has one, into build/firmware. TOOLCHAIN: gcc or zig; by default what is there.
firmware: $(STAMP)
	$(BIN)/python -m host_tools.firmware_image $(if $(TOOLCHAIN),--toolchain $(TOOLCHAIN))

wheel: $(STAMP)
	rm -rf dist
	$(BIN)/python -m build -q --wheel --no-isolation --outdir dist .

# Resolve the lock anew (Python 3.11). Hosts of registries and folders of wheels stay out of it.
lock: $(STAMP)
	$(PIP) install -q pip-tools
	$(BIN)/pip-compile -q --upgrade $(foreach extra,$(subst $(comma), ,$(EXTRAS)),--extra $(extra)) \
	    --strip-extras --generate-hashes --allow-unsafe --no-header --no-emit-index-url \
	    --no-emit-find-links --no-emit-trusted-host -o requirements-dev.lock pyproject.toml

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

comma := ,
