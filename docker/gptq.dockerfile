# The detector as one sealed image: Python, packages, models and code; nothing is fetched or compiled at run time.
#
#   cd docker && docker build . -t memes2024:gptq-final-submission
#
# Build arguments: LLM and CAPTIONER, the model folders llm-gptq/ and captioner/ in docker/ or others below
# docker/models/ (Docker follows no link out of its context, and .dockerignore lets no others in; build_image.sh takes
# them from anywhere); BASE_IMAGE, a Debian with Python 3.11; PIP_INDEX_URL and PIP_EXTRA_INDEX_URL, for pip alone
# (docs/container.md: V100); REVISION, the commit. Wheels that lie in docker/wheels/ are taken instead of any index.
ARG BASE_IMAGE=python:3.11-slim-bookworm

# Compilers, indexes and wheels stay in this stage: the image takes /opt/venv and one data file from it.
FROM ${BASE_IMAGE} AS packages
# gptqmodel's pypcre comes as source only; tesserocr's wheel brings Tesseract itself, Debian the Tamil data.
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev libpcre2-dev pkg-config tesseract-ocr-tam \
 && rm -rf /var/lib/apt/lists/*
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
WORKDIR /build
COPY requirements.txt constraints.txt wheels* ./
# Torch first: the rest then resolves against it. pip, ninja and maturin are for building only.
RUN python3.11 -m venv /opt/venv \
 && if ls ./*.whl >/dev/null 2>&1; then export PIP_NO_INDEX=1 PIP_FIND_LINKS=/build; fi \
 && /opt/venv/bin/pip install --no-cache-dir "$(sed -nE 's/^(torch==[^ ]+).*/\1/p' requirements.txt)" \
 && /opt/venv/bin/pip install --no-cache-dir -r requirements.txt -c constraints.txt \
 && /opt/venv/bin/pip uninstall -y ninja maturin pip

# Weights are often readable by their owner alone; the judge's user id is nobody's.
FROM ${BASE_IMAGE} AS models
ARG LLM=llm-gptq
ARG CAPTIONER=captioner
COPY ${LLM}/ /models/llm/
COPY ${CAPTIONER}/ /models/captioner/
RUN chmod -R a+rX /models

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="memes2024" \
      org.opencontainers.image.description="Harmful-meme detector: image paths in, probability and label out" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 meme \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin meme

# The challenge gives 2 CPUs by quota, which libraries do not see: without these, each starts a thread a core.
# The root is read-only and the user id may have no name: whatever is cached goes to /tmp, which holds no programs.
ENV LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 DO_NOT_TRACK=1 \
    OMP_NUM_THREADS=2 MKL_NUM_THREADS=2 OPENBLAS_NUM_THREADS=2 RAYON_NUM_THREADS=2 OPENCV_FOR_THREADS_NUM=2 \
    GPTQMODEL_CPU_WORKERS=2 OCR_WORKERS=2 TOKENIZERS_PARALLELISM=false \
    HOME=/tmp USER=meme XDG_CACHE_HOME=/tmp/cache HF_HOME=/tmp/cache/huggingface MPLCONFIGDIR=/tmp/cache/matplotlib \
    TORCHINDUCTOR_CACHE_DIR=/tmp/cache/inductor TRITON_HOME=/tmp/cache CUDA_CACHE_PATH=/tmp/cache/cuda \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    LLM_DIR=/models/llm CAPTION_MODEL_DIR=/models/captioner

# From what changes least to what changes most: a change of code copies neither packages nor weights anew.
COPY --from=packages /usr/share/tesseract-ocr/5/tessdata/tam.traineddata /usr/share/tesseract-ocr/5/tessdata/
COPY --from=packages /opt/venv /opt/venv
COPY --from=models /models/captioner /models/captioner
COPY --from=models /models/llm /models/llm
COPY predict.py self_check.py self_check.png /app/
COPY detector /app/detector

USER 10001:10001
# A model folder that cannot be used ends the build here, not the run on the judge's machine.
RUN ["/opt/venv/bin/python", "/app/self_check.py"]
ARG REVISION=unknown
LABEL org.opencontainers.image.revision="${REVISION}"
ENTRYPOINT ["/opt/venv/bin/python", "/app/predict.py"]
