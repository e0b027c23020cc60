"""Rows and data sets small enough to train on in seconds."""

import random

WHO = {"These people": "race", "They": "religion", "My neighbours": "general"}  # the last is no category
WORDS = {
    "ok": ["sunny", "early", "busy", "friendly", "hungry"],
    "offensive": ["lazy", "dirty", "useless", "stupid", "dishonest"],
}
TINY_RUN = {
    "EPOCHS": "1",
    "BATCH_SIZE": "8",
    "LEARNING_RATE": "5e-3",
    "EVAL_STEPS": "5",
    "SAVE_STEPS": "5",
    "LORA_DROPOUT": "0.1",
    "REPORT_TO": "none",
}


def meme_rows(count: int, seed: int) -> list[dict]:
    """Rows that a tiny model can tell apart by one word each."""
    shuffle = random.Random(seed)
    rows = []
    for number in range(count):
        label = number % 2
        word = shuffle.choice(WORDS["offensive" if label else "ok"])
        image, who = shuffle.choice(["a cat", "a dog on a bus", "a cup"]), shuffle.choice(list(WHO))
        rows.append(
            {
                "id": f"{seed}-{number}",
                "image": image,
                "text": f"{who} are {word} {shuffle.randint(1, 99)}",
                "label": label,
                "language": shuffle.choice(["en", "ms"]),
                "category": WHO[who],
                "group": f"{seed}-{number}",
                "source": "test",
            }
        )
    return rows


def save_dataset(folder, **splits):
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    columns = ("id", "image", "text", "language", "category", "group", "source")
    features = Features({**{name: Value("string") for name in columns}, "label": ClassLabel(names=["ok", "offensive"])})
    dataset = DatasetDict(
        {
            name: Dataset.from_dict(
                {column: [row.get(column) for row in rows] for column in features}, features=features
            )
            for name, rows in splits.items()
        }
    )
    dataset.save_to_disk(folder)
    return folder
