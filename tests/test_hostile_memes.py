"""No wording of a meme becomes markup, for the tokenizers that people have: training, container and servers alike."""

import time

import pytest

from chat_families import ARCHIVE, FAMILIES, HOSTILE_PARTS, chat_tokenizer, forged, ten_spellings, unpack_archive

LIMIT = 512


@pytest.fixture(scope="module")
def policy(repo):
    return (repo / "training_pipeline" / "policy.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def vocabulary(policy):
    """What the made-up tokenizers have whole words of: the categories as well."""
    from guard.attaching import policy_text

    return policy_text(policy)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, policy, vocabulary):
    """(name, tokenizer with the guard template, both folders' prompts)."""
    return request.param, *attached(chat_tokenizer(request.param, [vocabulary]), policy)


def attached(tokenizer, policy):
    from detector.prompt import build_prompt
    from guard.attaching import attach_guard
    from guard.template import read_guard_prompt

    scoring = attach_guard(tokenizer, policy)
    return tokenizer, read_guard_prompt(tokenizer, scoring), build_prompt(tokenizer, scoring)


def served_ids(tokenizer, text: str) -> list[int]:
    message = [{"role": "user", "content": text}]
    return tokenizer.apply_chat_template(message, tokenize=True, add_generation_prompt=True)["input_ids"]


def contents(served, text: str, caption: str | None) -> list[list[int]]:
    """Each view's own tokens in the container."""
    from detector.prompt import view_windows

    views = view_windows(served, text, caption, LIMIT).suffixes
    suffixes = [suffix for windows in views.values() for suffix in windows]
    assert all(suffix[-len(served.suffix_ids) :] == served.suffix_ids for suffix in suffixes)
    return [suffix[: -len(served.suffix_ids)] for suffix in suffixes]


def test_ten_spellings_of_each_turn_marker_forge_none(family):
    name, tokenizer, _, served = family
    markers = [*FAMILIES[name][3], *FAMILIES[name][1]]
    for marker in markers:
        for spelling in ten_spellings(marker):
            for text, caption in ((f"{spelling} safe", None), ("hi", f"a {spelling} safe"), (spelling, spelling)):
                for content in contents(served, text, caption):
                    assert not forged(tokenizer, content, marker), (marker, text)
                    assert not set(content) & set(tokenizer.all_special_ids), (marker, text)


def test_training_container_and_servers_read_the_same_tokens(family):
    _, tokenizer, trained, served = family
    compare_ids(tokenizer, trained, served)


def compare_ids(tokenizer, trained, served) -> None:
    from detector.prompt import view_windows
    from guard.template import encode_memes

    assert len(HOSTILE_PARTS) >= 60
    for text in HOSTILE_PARTS:
        (meme,) = encode_memes(trained, [{"text": text, "image": text, "label": 0}])
        whole = view_windows(served, text, text, 10**6).suffixes
        longest = trained.max_text_tokens + len(trained.suffix_ids)  # what is longer is cut, in training alone
        asked = zip(meme.suffixes, whole.values(), strict=True)
        assert all(kept == ids for kept, (ids,) in asked if len(ids) <= longest), text
        for view, (ids,) in whole.items():
            said = text if view == "text" else f"Image: {text}, Caption: {text}"
            assert served.prefix_ids + ids == served_ids(tokenizer, said), (view, text)


def test_thousands_of_added_tokens_cost_at_most_two_milliseconds(policy, vocabulary):
    tokenizer = chat_tokenizer("openchat", [vocabulary])
    names = [f"{kind}{number}{end}" for kind, end in (("<unused", ">"), ("[control_", "]")) for number in range(2000)]
    tokenizer.add_tokens([*names, "kopi"])
    tokenizer, _, served = attached(tokenizer, policy)
    added = set(tokenizer.convert_tokens_to_ids(names))
    for text in (" ".join(names[::97]), "a plain caption of a meme", "[control_7]<unused1999>"):
        assert not added & {token for content in contents(served, text, None) for token in content}
        times = []
        for _ in range(20):
            started = time.thread_time()
            contents(served, text[:200], None)
            times.append(time.thread_time() - started)
        assert min(times) <= 0.002
    assert "kopi" in tokenizer.decode(contents(served, "one kopi please", None)[0]), "an added word is a word"


def test_texts_that_merge_with_what_follows_them_are_served_as_they_were_trained(policy):
    """Gemma has one token for `>`, a space and `</`, so the text's last token depends on the question behind it."""
    merges = [("▁", "<"), ("▁<", "/"), (">", "▁</")]
    tokenizer, trained, served = attached(chat_tokenizer("Vicuna", [policy], merges), policy)
    assert tokenizer.convert_tokens_to_ids(">▁</") in served_ids(tokenizer, "you > me >")
    compare_ids(tokenizer, trained, served)


def test_a_folder_attached_by_nested_filters_goes_on_as_it_is(policy):
    """The guard template of before, which published models have."""
    from detector.prompt import build_prompt
    from guard.template import read_guard_prompt

    tokenizer = chat_tokenizer("openchat", [policy])
    tokenizer.chat_template = (
        "{{ '<s>GPT4 Correct User: Is it unsafe or safe?\\n<meme>\\n' }}{{ ((messages | first)['content'].split() | "
        "join(' ')) | replace('</meme>', '< /meme>') | replace('</s>', '< /s>') | replace('<s>', '< s>')"
        " | replace('<|', '< |') }}"
        "{{ ' </meme><|end_of_turn|>GPT4 Correct Assistant:' }}"
    )
    scoring = {
        "label_words": {"offensive": " unsafe", "ok": " safe"},
        "views": {"text": "{text}", "image_text": "Image: {caption}, Caption: {text}"},
        "threshold": 0.5,
        "temperature": 1.0,
        "max_text_tokens": 256,
    }
    compare_ids(tokenizer, read_guard_prompt(tokenizer, scoring), build_prompt(tokenizer, scoring))


@pytest.mark.skipif(not ARCHIVE.exists(), reason="the archive of real tokenizers is not at hand")
def test_real_tokenizers_keep_both_promises(policy, tmp_path):
    from transformers import AutoTokenizer

    from guard.chat_text import freeze_date
    from guard.markup import turn_markers

    for folder in unpack_archive(tmp_path):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.chat_template = freeze_date(tokenizer.chat_template)
        markers = turn_markers(tokenizer)
        tokenizer, trained, served = attached(tokenizer, policy)
        compare_ids(tokenizer, trained, served)
        for marker in markers:
            for spelling in ten_spellings(marker):
                for content in contents(served, f"{spelling} safe", f"a {spelling} safe"):
                    assert not forged(tokenizer, content, marker), (folder.name, spelling)
