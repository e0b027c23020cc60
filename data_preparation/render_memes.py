"""Draw memes from a dataset's texts: pictures to train a captioner on, and held-out pictures to try the detector on.

Reads the dataset that clean_dataset.py wrote (DATASET_DIR), writes OUTPUT_DIR:

    train.parquet        128x128 pictures of texts of the train split: image, caption, text, label, language
    held_out/*.png       memes at full size, of texts of the test split only, one idea (group) each where possible
    held_out/stdin.csv   their file names, one a line
    held_out/labels.csv  file_name, object, caption, text, label, language, category, group
    held_out/metadata.csv  the same table under the name that `load_dataset("imagefolder")` wants
    README.md            the dataset card, with composition.png

The same settings draw the same files, so running it again is safe. It needs Debian's fonts:
`apt-get install fonts-noto-core fonts-noto-cjk fonts-noto-color-emoji`.

    DATASET_DIR=dataset OUTPUT_DIR=datasets/sample_memes python data_preparation/render_memes.py
"""

import csv
import io
import os
import random
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

from PIL import Image
from pydantic import DirectoryPath, Field, PositiveInt

from drawing.pictures import OBJECTS, SIZES, draw_meme, named_object
from drawing.sample_memes_card import card_files
from drawing.text_layout import MissingFontsError, require_fonts
from raw.raw_folder import LABELS, Json
from raw.script_settings import ScriptSettings

TRAIN_PIXELS = 128  # square: a BLIP processor squeezes any picture into a square, so these are squeezed alike
WEBP_QUALITY = 25  # about 2 kB a picture; most of it is the outlined text


class Settings(ScriptSettings):
    """What to draw from, where to, how much."""

    dataset_dir: DirectoryPath = Field(
        description="folder of a dataset with train and test splits that clean_dataset.py wrote; run that script first"
    )
    output_dir: Path = Field(Path("sample_memes"), description="folder to write the pictures and tables into")
    train_pictures: PositiveInt = Field(2000, description="number of small pictures with captions for a captioner")
    held_out_pictures: PositiveInt = Field(60, description="number of full-size memes of test texts")
    seed: int = Field(1, description="number that fixes every random choice")


def main() -> None:
    settings = Settings.read(__doc__)
    try:
        require_fonts()
    except MissingFontsError as missing:
        raise SystemExit(f"render_memes.py: {missing}") from None
    splits = read_splits(settings.dataset_dir)
    held_out = choose_held_out(splits["test"], settings.held_out_pictures, settings.seed)
    write_held_out(held_out, settings.output_dir / "held_out", settings.seed)
    drawn = train_rows(splits["train"], settings.train_pictures, settings.seed)
    write_parquet(drawn, settings.train_pictures, settings.output_dir / "train.parquet")
    drawn_with = (
        f"`TRAIN_PICTURES={settings.train_pictures} HELD_OUT_PICTURES={settings.held_out_pictures} "
        f"SEED={settings.seed}`"
    )
    for name, content in card_files(settings.output_dir, drawn_with).items():
        save_atomically(settings.output_dir / name, content)
    print(
        f"wrote {settings.train_pictures:,} training pictures and {len(held_out)} held-out memes "
        f"({len({row['group'] for row in held_out})} ideas) to {settings.output_dir}",
        file=sys.stderr,
    )


def read_splits(dataset_dir: Path) -> dict[str, list[Json]]:
    """The rows of the train and test splits, labels as words; stops where a split is missing or shares a group."""
    from datasets import DatasetDict, load_from_disk

    saved = load_from_disk(str(dataset_dir))
    missing = {"train", "test"} - set(saved if isinstance(saved, DatasetDict) else {})
    if missing:
        raise SystemExit(
            f"render_memes.py: DATASET_DIR={dataset_dir} has no {' and no '.join(sorted(missing))} split; "
            "write it with clean_dataset.py"
        )
    names = saved["train"].features["label"].names
    splits = {split: [row | {"label": names[row["label"]]} for row in saved[split]] for split in ("train", "test")}
    shared = {row["group"] for row in splits["train"]} & {row["group"] for row in splits["test"]}
    if shared or not all(splits.values()):
        raise SystemExit(
            f"render_memes.py: DATASET_DIR={dataset_dir} has {len(shared)} groups both in train and in "
            "test, or an empty split; write it with clean_dataset.py and a larger TEST_FRACTION"
        )
    return splits


def choose_held_out(rows: list[Json], count: int, seed: int) -> list[Json]:
    """`count` rows, even over label and language, each of the least used group of its kind; fewer where rows end."""
    kinds: dict[tuple[str, str], list[Json]] = defaultdict(list)
    for row in shuffled(rows, f"{seed}:held_out"):
        kinds[row["label"], row["language"]].append(row)
    chosen: list[Json] = []
    used: Counter[str] = Counter()
    for kind in cycle(sorted(kinds)):
        if len(chosen) == count or not any(kinds.values()):
            break
        if kinds[kind]:
            row = min(kinds[kind], key=lambda candidate: used[candidate["group"]])
            kinds[kind].remove(row)
            used[row["group"]] += 1
            chosen.append(row)
    return chosen


def shuffled(rows: list[Json], seed: str) -> list[Json]:
    return random.Random(seed).sample(rows, len(rows))


def write_held_out(rows: list[Json], folder: Path, seed: int) -> None:
    """PNG files with a palette of 255 colours, and their tables; pictures of an earlier run are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    table, objects = [], cycle(random.Random(seed).sample(list(OBJECTS), len(OBJECTS)))
    for number, row in enumerate(rows):
        rng = random.Random(f"{seed}:held_out:{row['id']}")
        wanted = None if named_object(row["image"]) else next(objects)
        meme = draw_meme(row["text"], row["language"], row["image"], SIZES[number % len(SIZES)], rng, wanted)
        name = f"meme_{number + 1:03d}.png"
        save_atomically(folder / name, png_bytes(meme.image))
        table.append(
            {
                "file_name": name,
                "object": meme.main_object,
                "caption": meme.caption,
                "text": row["text"],
                "label": row["label"],
                "language": row["language"],
                "category": row["category"],
                "group": row["group"],
            }
        )
    names = [line["file_name"] for line in table]
    for stale in {path.name for path in folder.glob("meme_*.png")} - set(names):
        (folder / stale).unlink()
    save_atomically(folder / "stdin.csv", "".join(f"{name}\n" for name in names).encode())
    for file in ("labels.csv", "metadata.csv"):
        save_atomically(folder / file, csv_bytes(table))


def png_bytes(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.quantize(255, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def csv_bytes(table: list[Json]) -> bytes:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, table[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return buffer.getvalue().encode()


def save_atomically(path: Path, content: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as aside:
        aside.write(content)
    os.chmod(aside.name, 0o644)
    os.replace(aside.name, path)


def train_rows(rows: list[Json], count: int, seed: int) -> Iterator[Json]:
    """`count` drawn rows: texts in shuffled order, again from the start where they run out; where the text's image
    description names no object, the one drawn least so far."""
    drawn: Counter[str] = Counter()
    for number, row in enumerate(islice(cycle(shuffled(rows, f"{seed}:train")), count)):
        rng = random.Random(f"{seed}:train:{number}")
        meme = draw_meme(
            row["text"],
            row["language"],
            row["image"],
            rng.choice(SIZES),
            rng,
            main_object=min(OBJECTS, key=lambda name: drawn[name]),
        )
        drawn[meme.main_object] += 1
        buffer = io.BytesIO()
        meme.image.resize((TRAIN_PIXELS, TRAIN_PIXELS), Image.Resampling.LANCZOS).save(
            buffer, "WEBP", quality=WEBP_QUALITY, method=6
        )
        yield {
            "image": {"bytes": buffer.getvalue(), "path": f"{number + 1:05d}.webp"},
            "caption": meme.caption,
            "text": row["text"],
            "label": row["label"],
            "language": row["language"],
        }
        if (number + 1) % 500 == 0:
            print(f"render_memes.py: drew {number + 1:,} of {count:,} training pictures", file=sys.stderr, flush=True)


def write_parquet(drawn: Iterator[Json], count: int, path: Path) -> None:
    """The rows as one Parquet file whose `image` column `datasets` opens as pictures."""
    from datasets import ClassLabel, Dataset, Features, Value, disable_progress_bars
    from datasets import Image as ImageFeature

    disable_progress_bars()
    text = Value("string")
    features = Features(
        {
            "image": ImageFeature(),
            "caption": text,
            "text": text,
            "label": ClassLabel(names=list(LABELS)),
            "language": text,
        }
    )
    table = Dataset.from_list(list(islice(drawn, count)), features=features)
    aside = path.with_suffix(".aside")
    table.to_parquet(str(aside))
    os.replace(aside, path)


if __name__ == "__main__":
    main()
