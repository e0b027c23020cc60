#!/usr/bin/env bash
# Build the image from docker/ and two model folders, wherever these lie.
#
#   make image                                                   # the models of `make demo`
#   LLM=llm-gptq CAPTIONER=models/blip docker/build_image.sh     # any others; the image's name may follow
#
# Docker takes files from its context alone, so the folders are linked into docker/ for the build (hard links: no
# copy where they lie on the same disk) and removed after it. BASE_IMAGE, PIP_INDEX_URL and PIP_EXTRA_INDEX_URL are
# passed on as build arguments.
set -euo pipefail
cd "$(dirname "$0")/.."
LLM=${LLM:-artifacts/demo/llm-gptq}
CAPTIONER=${CAPTIONER:-artifacts/demo/captioner}
placed=docker/models-for-build

place() { # place FOLDER NAME
  [ -d "$1" ] || { echo "build_image.sh: $1 is no folder: run make demo, or set LLM and CAPTIONER" >&2; exit 1; }
  cp -rlL "$1" "$placed/$2" 2>/dev/null || { rm -rf "${placed:?}/$2" && cp -rL "$1" "$placed/$2"; }
}

trap 'rm -rf "$placed"' EXIT
rm -rf "$placed" && mkdir "$placed"
place "$LLM" llm
place "$CAPTIONER" captioner
arguments=(--build-arg LLM=models-for-build/llm --build-arg CAPTIONER=models-for-build/captioner
  --build-arg "REVISION=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)")
for name in BASE_IMAGE PIP_INDEX_URL PIP_EXTRA_INDEX_URL; do
  [ -z "${!name:-}" ] || arguments+=(--build-arg "$name=${!name}")
done
# The host's network: a build needs only to download, and name servers are often out of a bridge's reach.
docker build --network host -f docker/gptq.dockerfile "${arguments[@]}" -t "${1:-memes2024:gptq}" docker
