"""Measure how well and how fast the text of memes is read, beside RapidOCR as shipped and Tesseract alone.

Reads   IMAGES_DIR: pictures with transcriptions.jsonl ({"image", "text"} a line) or transcriptions.tsv (name,
        language, text); RENDERED memes a language and LAYOUTS pictures of each layout that it draws itself (phrasebook
        wording; Debian's fonts-noto-core and fonts-noto-cjk, for layouts fonts-dejavu-core alone).
Writes  stdout: a Markdown table: word recall and precision, order, character error rate, seconds an image.

    IMAGES_DIR=../shared/data/real_memes python benchmarks/bench_ocr.py

Words are compared in lower case as a multiset, so reading order costs nothing there. Order is Kendall's tau over the
words that were read (1: as people read them, 0: any order, -1: backwards), the mean over pictures; the character error
rate (edits over the length of the truth, Chinese without spaces) counts both. Tesseract alone uses what language data
it finds of eng, msa, chi_sim and tam. CPU seconds are those of the whole process: they hold on a busy machine too.
"""

import collections
import json
import re
import sys
import time
import unicodedata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "docker"))

from pydantic import DirectoryPath, Field

from detector.script_settings import ScriptSettings


class Settings(ScriptSettings):
    images_dir: DirectoryPath | None = Field(None, description="memes with transcriptions; rendered ones only if unset")
    rendered: int = Field(40, ge=0, description="memes to draw for each language")
    layouts: int = Field(5, ge=0, description="pictures to draw of each layout: columns, panels, webtoons, turned, ...")
    engines: str = Field("ours,rapidocr,tesseract", description="which of ours, rapidocr, tesseract, with commas")
    threads: int = Field(2, ge=1, description="threads of one reader")
    show: bool = Field(False, description="1: print what was read wrongly on stderr")


def main() -> int:
    settings = Settings.read(__doc__)
    memes = list(all_memes(settings))
    print("| memes | engine | images | word recall | word precision | order | CER | s/image | CPU s/image |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in settings.engines.split(","):
        read = ENGINES[name.strip()](settings.threads)
        for group in dict.fromkeys(group for group, _, _ in memes):
            print(
                table_row(group, name, measure(read, [meme for meme in memes if meme[0] == group], settings.show)),
                flush=True,
            )
    return 0


def all_memes(settings):
    """(group, RGB picture, text)."""
    from detector.image_decoding import decode_image
    from drawn_layouts import drawn_layouts
    from rendered_memes import rendered_memes

    if settings.images_dir:
        for name, text in transcriptions(settings.images_dir):
            yield settings.images_dir.name, decode_image(str(settings.images_dir / name)), text
    if settings.rendered:
        for language, picture, text in rendered_memes(settings.rendered):
            yield f"rendered {language}", picture, text
    if settings.layouts:
        yield from drawn_layouts(settings.layouts)


def transcriptions(folder: Path) -> list[tuple[str, str]]:
    """(file name, text) of a folder; raises FileNotFoundError where it has neither kind of transcription."""
    lines, table = folder / "transcriptions.jsonl", folder / "transcriptions.tsv"
    if lines.exists():
        rows = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
        return [(row["image"], row["text"]) for row in rows]
    return [(row.split("\t")[0], row.split("\t")[2]) for row in table.read_text(encoding="utf-8").splitlines()]


def our_reader(threads: int):
    from detector.ocr import OcrEngine, meme_text

    engine = OcrEngine(threads=threads)
    return lambda picture: meme_text(engine.read(picture))


def shipped_rapidocr(threads: int):
    import numpy as np
    from rapidocr import RapidOCR

    engine = RapidOCR(params={"Global.log_level": "error", "EngineConfig.onnxruntime.intra_op_num_threads": threads})
    engine(np.zeros((64, 64, 3), np.uint8))
    return lambda picture: " ".join(engine(np.asarray(picture)[:, :, ::-1]).txts or ())


def plain_tesseract(threads: int):
    from tesserocr import PyTessBaseAPI, get_languages

    from detector.tamil_ocr import tamil_folder

    folder = tamil_folder(None)
    known = [language for language in ("eng", "msa", "chi_sim", "tam") if language in get_languages(str(folder))[1]]
    api = PyTessBaseAPI(path=str(folder), lang="+".join(known))

    def read(picture) -> str:
        api.SetImage(picture)
        return " ".join(api.GetUTF8Text().split())

    return read


ENGINES = {"ours": our_reader, "rapidocr": shipped_rapidocr, "tesseract": plain_tesseract}


def measure(read, memes, show: bool) -> dict[str, float]:
    """Recall, precision, order, character error rate and seconds over `memes` [(group, picture, text)]."""
    wall, cpu = time.perf_counter(), time.process_time()
    texts = [(truth, read(picture)) for _, picture, truth in memes]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    shared = read_words = true_words = edits = length = 0
    for truth, text in texts:
        wanted, found = words(truth), words(text)
        shared += sum((wanted & found).values())
        true_words += sum(wanted.values())
        read_words += sum(found.values())
        plain, plain_text = plain_characters(truth), plain_characters(text)
        edits += edit_distance(plain, plain_text)
        length += len(plain)
        if show and wanted != found:
            print(f"truth {truth!r}\n read {text!r}", file=sys.stderr)
    count = len(memes)
    return {
        "images": count,
        "recall": shared / max(1, true_words),
        "precision": shared / max(1, read_words),
        "order": sum(order(truth, text) for truth, text in texts) / count,
        "cer": edits / max(1, length),
        "seconds": wall / count,
        "cpu": cpu / count,
    }


def order(truth: str, text: str) -> float:
    """Kendall's tau between the places of words in both; a word that comes several times is matched in its order."""
    places = collections.defaultdict(list)
    for place, word in enumerate(word_list(truth)):
        places[word].append(place)
    read = [places[word].pop(0) for word in word_list(text) if places[word]]
    pairs = len(read) * (len(read) - 1) // 2
    inverted = sum(later < earlier for number, earlier in enumerate(read) for later in read[number + 1 :])
    return 1 - 2 * inverted / pairs if pairs else 1.0


def words(text: str) -> collections.Counter:
    """How often each word is there."""
    return collections.Counter(word_list(text))


def word_list(text: str) -> list[str]:
    """Words in lower case; each Chinese character is a word of its own, Tamil signs stay with their letters."""
    return re.findall(r"[\u4e00-\u9fff]|[\u0b80-\u0bff]+|[^\W\u4e00-\u9fff\u0b80-\u0bff]+", plain_characters(text))


def plain_characters(text: str) -> str:
    """Lower case, compatibility forms united (full-width punctuation), no joiners, no spaces beside Chinese."""
    text = unicodedata.normalize("NFKC", text).lower().translate({0x200B: None, 0x200C: None, 0x200D: None})
    text = re.sub(r"\s*([\u4e00-\u9fff\u3001\u3002])\s*", r"\1", text)
    return " ".join(text.split())


def edit_distance(first: str, second: str) -> int:
    """Levenshtein."""
    row = list(range(len(second) + 1))
    for number, character in enumerate(first, 1):
        diagonal, row[0] = row[0], number
        for column, other in enumerate(second, 1):
            diagonal, row[column] = (
                row[column],
                min(row[column] + 1, row[column - 1] + 1, diagonal + (character != other)),
            )
    return row[-1]


def table_row(group: str, engine: str, found: dict[str, float]) -> str:
    return (
        f"| {group} | {engine} | {found['images']} | {found['recall']:.3f} | {found['precision']:.3f} | "
        f"{found['order']:.3f} | {found['cer']:.3f} | {found['seconds']:.2f} | {found['cpu']:.2f} |"
    )


if __name__ == "__main__":
    raise SystemExit(main())
