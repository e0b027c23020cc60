#!/usr/bin/env bash
# Build the image, run it as the challenge does, and compare it with the same run outside the container.
#
#   make image-test            # or: docker/smoke_test.sh; as root where no Docker engine runs
#
# Reads   LLM, CAPTIONER: model folders (default: those of `make demo`); datasets/sample_memes/held_out, and the
#         official samples where SAMPLES_DIR (default ../shared/data/ospc_samples) has a stdin.csv.
# Writes  the image memes2024:gptq; stdout: one line a check, then `N passed, N failed`. Exit status 1 if one failed.
#
# Where no engine runs, one is installed (apt, as root), started for this run and stopped after it. Where no base image
# can be pulled, one is made with mmdebstrap, and the packages come from wheels that this machine's pip gathers.
set -euo pipefail
cd "$(dirname "$0")/.."
LLM=${LLM:-artifacts/demo/llm-gptq}
CAPTIONER=${CAPTIONER:-artifacts/demo/captioner}
SAMPLES_DIR=${SAMPLES_DIR:-../shared/data/ospc_samples}
PYTHON=${PYTHON:-.venv/bin/python}
IMAGE=memes2024:gptq
BASE_IMAGE=${BASE_IMAGE:-python:3.11-slim-bookworm}
MADE_BASE=memes2024-base:bookworm
NAME=memes2024-smoke
MAX_WAIT_MS=60000 # full batches both times: in 16 bits the last digit may follow the size of a batch
WORK=$(mktemp -d)
ENGINE=""
passed=0
failed=0

main() {
  trap clean_up EXIT
  have_engine
  have_base_image
  build
  check_image
  check_broken_model
  gather_lines
  run_sealed
  check_sealed
  echo "$passed passed, $failed failed"
  [ "$failed" = 0 ]
}

say() { echo "smoke_test.sh: $*" >&2; }

check() { # check NAME CONDITION...: one line, counted
  local name=$1
  shift
  if "$@" >"$WORK/check.log" 2>&1; then
    passed=$((passed + 1)) && echo "ok      $name"
  else
    failed=$((failed + 1)) && echo "FAILED  $name" && tail -n 20 "$WORK/check.log"
  fi
}

have_engine() {
  if docker info >/dev/null 2>&1; then return; fi
  [ "$(id -u)" = 0 ] || { say "no Docker engine answers, and only root can start one"; exit 1; }
  if ! command -v dockerd >/dev/null; then
    say "installing Docker"
    (apt-get update && apt-get install -y --no-install-recommends docker.io iptables) >"$WORK/apt.log" 2>&1
  fi
  say "starting a Docker engine for this run"
  export DOCKER_HOST=unix://$WORK/docker.sock
  dockerd -H "$DOCKER_HOST" --pidfile "$WORK/dockerd.pid" --exec-root "$WORK/exec" >"$WORK/dockerd.log" 2>&1 &
  ENGINE=$!
  for _ in $(seq 60); do
    if docker info >/dev/null 2>&1; then return; fi
    sleep 1
  done
  tail "$WORK/dockerd.log" >&2
  say "the engine does not answer"
  exit 1
}

have_base_image() {
  if docker image inspect "$BASE_IMAGE" >/dev/null 2>&1 || docker pull -q "$BASE_IMAGE" >/dev/null 2>&1; then return; fi
  say "$BASE_IMAGE cannot be pulled: making a base image with mmdebstrap"
  BASE_IMAGE=$MADE_BASE
  if ! docker image inspect "$BASE_IMAGE" >/dev/null 2>&1; then
    command -v mmdebstrap >/dev/null || apt-get install -y --no-install-recommends mmdebstrap >"$WORK/apt.log" 2>&1
    mmdebstrap --quiet --variant=minbase --include=python3,python3-venv bookworm "$WORK/base.tar"
    docker import "$WORK/base.tar" "$BASE_IMAGE" >/dev/null
    rm "$WORK/base.tar"
  fi
  [ -d docker/wheels ] || gather_wheels
}

gather_wheels() {
  say "gathering wheels by this machine's pip"
  "$PYTHON" -m pip wheel -q -r docker/requirements.txt -c docker/constraints.txt -w "$WORK/wheels" 2>"$WORK/wheels.log"
  mv "$WORK/wheels" docker/wheels
}

build() {
  say "building $IMAGE on $BASE_IMAGE"
  LLM=$LLM CAPTIONER=$CAPTIONER BASE_IMAGE=$BASE_IMAGE docker/build_image.sh "$IMAGE" >"$WORK/build.log" 2>&1 ||
    { tail -n 40 "$WORK/build.log" >&2; say "the build failed"; exit 1; }
}

check_image() {
  check "the image runs as a user that is not root" test "$(inspect_image '{{.Config.User}}')" = 10001:10001
  check "the entry point is in exec form" \
    test "$(inspect_image '{{json .Config.Entrypoint}}')" = '["/opt/venv/bin/python","/app/predict.py"]'
  check "OCI labels: title, licence and revision" test "$(label title) $(label licenses) $(label revision)" = \
    "memes2024 Apache-2.0 $(revision)"
  check "no compiler, no pip is left" docker run --rm --entrypoint sh "$IMAGE" -c \
    'for tool in cc gcc g++ c++ clang nvcc ld as make cmake ninja maturin rustc pip pip3; do
       found=$(PATH=/opt/venv/bin:$PATH command -v $tool) && echo "$found" && exit 1; done; true'
  check "a second build takes every layer from the cache" second_build_is_cached
}

inspect_image() { docker image inspect "$IMAGE" --format "$1"; }

packaged() {
  docker run --rm --entrypoint /opt/venv/bin/python "$IMAGE" -c \
    "import importlib.metadata; print(importlib.metadata.version('$1'))"
}

label() { inspect_image "{{index .Config.Labels \"org.opencontainers.image.$1\"}}"; }

revision() { git rev-parse --short HEAD 2>/dev/null || echo unknown; }

second_build_is_cached() {
  local before
  before=$(inspect_image '{{.Id}}')
  LLM=$LLM CAPTIONER=$CAPTIONER BASE_IMAGE=$BASE_IMAGE docker/build_image.sh "$IMAGE" &&
    test "$before" = "$(inspect_image '{{.Id}}')"
}

check_broken_model() { # the self-check must end a build, whatever the engine
  cp -r "$LLM" "$WORK/broken" && chmod -R u+w "$WORK/broken" && rm "$WORK/broken/scoring.json"
  check "a model folder without scoring.json fails the build, by name" broken_build_fails
}

broken_build_fails() {
  ! LLM=$WORK/broken CAPTIONER=$CAPTIONER BASE_IMAGE=$BASE_IMAGE docker/build_image.sh memes2024:broken \
    >"$WORK/broken.log" 2>&1 && grep -q 'lacks scoring.json: make a guard model' "$WORK/broken.log"
}

gather_lines() { # 60 sample memes, the official samples, and two lines that cannot be scored; /images in the container
  mkdir -p "$WORK/images"
  cp datasets/sample_memes/held_out/*.png "$WORK/images/"
  if [ -f "$SAMPLES_DIR/stdin.csv" ]; then cp "$SAMPLES_DIR"/*.png "$WORK/images/"; fi
  printf 'no picture' >"$WORK/images/broken.png"
  chmod 755 "$WORK" "$WORK/images" && chmod 644 "$WORK"/images/*
  (cd "$WORK/images" && printf '/images/%s\n' *.png missing.png) >"$WORK/stdin.txt"
  say "$(wc -l <"$WORK/stdin.txt") lines"
}

run_sealed() {
  remove_container
  docker network create --internal "$NAME" >/dev/null
  gpus=()
  if command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; then gpus=(--gpus "device=0"); fi
  docker create --name "$NAME" --init -i --attach stdin --attach stdout --attach stderr --cpus 2 --memory 4g \
    --memory-swap 4g --ulimit nproc=1024 --ulimit nofile=1024 --network "$NAME" --read-only --user 12345:12345 \
    --mount "type=bind,source=$WORK/images,target=/images,readonly" \
    --mount type=tmpfs,destination=/tmp,tmpfs-size=5368709120,tmpfs-mode=1777 \
    --env "MAX_WAIT_MS=$MAX_WAIT_MS" ${gpus[@]+"${gpus[@]}"} \
    "$IMAGE" >/dev/null
  watch &
  docker start --attach --interactive "$NAME" <"$WORK/stdin.txt" >"$WORK/inside.tsv" 2>"$WORK/inside.log" || true
  wait $! || true
}

watch() { # what the kernel counted for the container: bytes of memory and threads at most, nanoseconds of CPU time
  local id folder most=0 peak=0 cpu=0
  id=$(docker inspect "$NAME" --format '{{.Id}}')
  while [ "$(docker inspect "$NAME" --format '{{.State.Status}}' 2>/dev/null)" != exited ]; do
    for folder in /sys/fs/cgroup/{memory/,pids/,cpuacct/,}docker/$id "/sys/fs/cgroup/system.slice/docker-$id.scope"; do
      peak=$(largest "$peak" "$folder"/memory.max_usage_in_bytes "$folder"/memory.peak)
      most=$(largest "$most" "$folder"/pids.current)
      cpu=$(largest "$cpu" "$folder"/cpuacct.usage)
      if [ -r "$folder/cpu.stat" ]; then
        cpu=$(awk -v cpu="$cpu" '$1 == "usage_usec" {cpu = $2 * 1000} END {printf "%d", cpu}' "$folder/cpu.stat")
      fi
    done
    sleep 0.5
  done
  echo "$peak $most $((cpu / 1000000000))" >"$WORK/counted"
}

largest() { # largest NUMBER FILE...: of the number and those in the files that are there
  { echo "$1"; cat "${@:2}" 2>/dev/null || true; } | sort -n | tail -n 1
}

check_sealed() {
  local lines peak threads cpu
  read -r peak threads cpu <"$WORK/counted"
  lines=$(wc -l <"$WORK/stdin.txt")
  check "it exits 0 at the end of its input" test "$(docker inspect "$NAME" --format '{{.State.ExitCode}}')" = 0
  check "one answer a line, $lines lines, in the challenge's form" \
    test "$(grep -cP '^[01]\.\d{4}\t[01]$' "$WORK/inside.tsv")-$(wc -l <"$WORK/inside.tsv")" = "$lines-$lines"
  check "two lines fell back, and no other" grep -q "$lines lines done, 2 failed" "$WORK/inside.log"
  run_outside
  check "stdout is the same, byte for byte, as outside the container" cmp "$WORK/inside.tsv" "$WORK/outside.tsv"
  check "nothing was written anywhere but to /tmp" nothing_written
  check "peak memory $((peak / 1048576)) MiB of 4096, no kill by the kernel" test "$peak" -gt 0 -a \
    "$(docker inspect "$NAME" --format '{{.State.OOMKilled}}')" = false
  check "at most $threads threads and processes of 1024" test "$threads" -gt 0
  echo "inside:  $(grep 'lines done' "$WORK/inside.log" | tail -n 1); $cpu s of CPU time"
  echo "outside: $(grep 'lines done' "$WORK/outside.log" | tail -n 1)"
  echo "$(uname -m), Docker $(docker version --format '{{.Server.Version}}'), torch $(packaged torch)," \
    "gptqmodel $(packaged gptqmodel), image $(($(inspect_image '{{.Size}}') / 1000000)) MB," \
    "$(date -u +%F), revision $(revision)"
}

run_outside() { # the very settings of the image, but for the places of models and caches
  local settings=()
  while IFS= read -r setting; do
    case $setting in PATH=* | HOME=* | *_DIR=* | *=/tmp/*) ;; *=*) settings+=("$setting") ;; esac
  done < <(inspect_image '{{range .Config.Env}}{{println .}}{{end}}')
  sed "s#^/images/#$WORK/images/#" "$WORK/stdin.txt" >"$WORK/outside.txt"
  env -i PATH="$PATH" HOME="$HOME" "${settings[@]}" LLM_DIR="$LLM" CAPTION_MODEL_DIR="$CAPTIONER" \
    MAX_WAIT_MS="$MAX_WAIT_MS" \
    "$PYTHON" docker/predict.py <"$WORK/outside.txt" >"$WORK/outside.tsv" 2>"$WORK/outside.log"
}

nothing_written() { # /images and docker-init are where the engine mounts the pictures and --init
  ! docker diff "$NAME" | grep -vxE 'C /usr|C /usr/sbin|C /sbin|A /usr/sbin/docker-init|A /sbin/docker-init|A /images'
}

remove_container() {
  docker rm -f "$NAME" >/dev/null 2>&1 || true
  docker network rm "$NAME" >/dev/null 2>&1 || true
}

clean_up() {
  remove_container
  if [ -n "$ENGINE" ]; then
    kill "$ENGINE" && wait "$ENGINE" || true
    umount "$WORK/exec/netns/default" 2>/dev/null || true # the engine leaves its network namespace mounted
  fi
  rm -rf "$WORK" 2>/dev/null || true
}

main
