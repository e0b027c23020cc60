"""The part of the work that the device does, a batch at a time: caption images, score captions and texts."""

from collections.abc import Callable
from typing import TypeVar

from detector.captions import Captioner, UnusableCaptioner, load_captioner
from detector.chat_model import Answer, ChatModel, load_chat_model
from detector.device import pick_device, pick_dtype, quiet_libraries
from detector.meme import Meme, Stopwatch
from detector.prompt import UnusableModel, view_windows
from detector.settings import DetectorSettings, UnusableSetting

Given = TypeVar("Given")
Computed = TypeVar("Computed")


class Scorer:
    """Captions, where it has a captioner, and scores what a Reader read; for one thread. All lies on one device."""

    def __init__(
        self,
        captioner: Captioner | None,
        chat_model: ChatModel,
        threshold: float,
        fallback_probability: float,
        max_text_tokens: int,
    ):
        self.captioner = captioner
        self.chat_model = chat_model
        self.threshold = threshold  # for whoever prints a label
        self.fallback_probability = fallback_probability
        self.max_text_tokens = max_text_tokens

    def score(self, memes: list[Meme]) -> None:
        """Set caption, views, probability and categories of each. Never raises: what fails becomes the meme's error."""
        spent: dict[str, float] = {}
        if self.captioner:
            with Stopwatch(spent, "caption"):
                self._caption(memes, self.captioner)
        with Stopwatch(spent, "score"):
            self._score_views(memes)
        for meme in memes:
            meme.milliseconds |= {stage: round(took / len(memes), 1) for stage, took in spent.items()}

    def _caption(self, memes: list[Meme], captioner: Captioner) -> None:
        seen = [(meme, meme.pixels) for meme in memes if meme.pixels is not None]
        captions = in_halves(captioner.captions, [pixels for _, pixels in seen])
        for (meme, _), caption in zip(seen, captions, strict=True):
            meme.caption = caption
            if caption is None:
                meme.fail("caption_failed")

    def _score_views(self, memes: list[Meme]) -> None:
        """All views of all memes in one go. A text beyond the token limit is several windows of a view."""
        prompted: list[tuple[int, str, list[int]]] = []
        for number, meme in enumerate(memes):
            try:
                views = view_windows(self.chat_model.prompt, meme.text, meme.caption, self.max_text_tokens)
            except Exception:
                meme.fail("tokenizing_failed")
                continue
            meme.unseen_text = views.unseen
            prompted += [(number, view, suffix) for view, suffixes in views.suffixes.items() for suffix in suffixes]
        answers = in_halves(self.chat_model.answers, [suffix for _, _, suffix in prompted])
        windows: list[dict[str, list[Answer]]] = [{} for _ in memes]  # those that were scored, by view
        for (number, view, _), answer in zip(prompted, answers, strict=True):
            if answer is None or not answer.is_sound:
                memes[number].fail("scoring_failed")
            else:
                windows[number].setdefault(view, []).append(answer)
        for meme, by_view in zip(memes, windows, strict=True):
            conclude(meme, by_view, self.fallback_probability)


def conclude(meme: Meme, windows: dict[str, list[Answer]], fallback_probability: float) -> None:
    """Set what the answers to a meme's views come to, each view in one window or several.

    The most harmful window, the first of equals, is its view's answer; probability and categories are the views' mean.
    """
    found = {view: max(answers, key=lambda answer: answer.probability) for view, answers in windows.items()}
    meme.views = {view: answer.probability for view, answer in found.items()}
    if not found:
        meme.probability = fallback_probability
        meme.fail("nothing_to_score")
        return
    answers = list(found.values())
    meme.probability = sum(answer.probability for answer in answers) / len(answers)
    meme.categories = {
        name: sum(answer.categories[name] for answer in answers) / len(answers) for name in answers[0].categories
    }


def in_halves(compute: Callable[[list[Given]], list[Computed]], inputs: list[Given]) -> list[Computed | None]:
    """`compute(inputs)`; where that raises, of halves, down to single inputs, whose failure is None."""
    if not inputs:
        return []
    try:
        return list(compute(inputs))
    except Exception:
        if len(inputs) == 1:
            return [None]
        middle = len(inputs) // 2
        return in_halves(compute, inputs[:middle]) + in_halves(compute, inputs[middle:])


def load_scorer(settings: DetectorSettings, device: str, costs: dict[str, float]) -> Scorer:
    """Load the models onto a device (`auto`, `cpu`, `cuda:N`); `costs` gets the milliseconds that each took.

    Raises UnusableSetting.
    """
    quiet_libraries()
    device = pick_device(device)
    dtype = pick_dtype(device, settings.dtype)
    try:
        captioner = None
        if settings.caption_model_dir:
            with Stopwatch(costs, "captioner"):
                captioner = load_captioner(settings.caption_model_dir, device, dtype, settings.max_caption_tokens)
        with Stopwatch(costs, "chat model"):
            chat_model = load_chat_model(settings.llm_dir, device, dtype, settings.tokens_a_row, settings.gptq_backend)
    except UnusableCaptioner as error:
        raise UnusableSetting(f"CAPTION_MODEL_DIR={settings.caption_model_dir}: {error}") from error
    except UnusableModel as error:
        raise UnusableSetting(f"LLM_DIR={settings.llm_dir}: {error}") from error
    prompt = chat_model.prompt
    return Scorer(
        captioner,
        chat_model,
        threshold=prompt.threshold if settings.threshold is None else settings.threshold,
        fallback_probability=settings.fallback_probability,
        max_text_tokens=prompt.max_text_tokens if settings.max_text_tokens is None else settings.max_text_tokens,
    )
