"""The part of the work that the device does, a batch at a time: caption images, score captions and texts."""

from collections.abc import Callable
from typing import TypeVar

from detector.captions import Captioner, UnusableCaptioner, load_captioner
from detector.chat_model import ChatModel, load_chat_model
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
        """Set caption, views and probability of each. Never raises: what fails becomes the meme's error."""
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
        """All views of all memes in one go; a meme's probability is the mean of its views'.

        A text beyond the token limit is several windows of a view: the most harmful one counts.
        """
        prompted: list[tuple[Meme, str, list[int]]] = []
        for meme in memes:
            try:
                views = view_windows(self.chat_model.prompt, meme.text, meme.caption, self.max_text_tokens)
            except Exception:
                meme.fail("tokenizing_failed")
                continue
            meme.unseen_text = views.unseen
            prompted += [(meme, view, suffix) for view, suffixes in views.suffixes.items() for suffix in suffixes]
        answers = in_halves(self.chat_model.answers, [suffix for _, _, suffix in prompted])
        for (meme, view, _), answer in zip(prompted, answers, strict=True):
            if answer is None or not 0 <= answer.probability <= 1:  # NaN compares false
                meme.fail("scoring_failed")
            else:
                meme.views[view] = max(answer.probability, meme.views.get(view, 0.0))
        for meme in memes:
            scored = list(meme.views.values())
            meme.probability = sum(scored) / len(scored) if scored else self.fallback_probability
            if not scored:
                meme.fail("nothing_to_score")


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
