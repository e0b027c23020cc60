"""Google Cloud Translation v2 by API key: batches within its limits, rates waited out, a refused key ends the run.

Limits as documented: 128 segments and 100 KB a request. Refusals for the rate are 429, or 403 with reason
rateLimitExceeded or userRateLimitExceeded. A limit per day carries the same codes and is told by its name in the
message; it and every other 403 (key, billing, API off) stay as they are until a person acts.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from chat.interrupts import Interrupts
from chat.provider_errors import QUOTA_REMEDY, is_quota_spent, own_words
from chat.sending import (
    AbortRunError,
    RefusedStreak,
    RequestFailedError,
    Usage,
    WaitNotices,
    backoff_seconds,
    retry_after_seconds,
)
from raw.raw_folder import Json

if TYPE_CHECKING:
    from google.api_core.exceptions import GoogleAPICallError

MODEL_ID = "google/translate-v2"
MOST_SEGMENTS = 128
MOST_BYTES = 100_000
ENVELOPE_BYTES = 500  # the other fields of a request's JSON body, generously
RATE_REASONS = {"rateLimitExceeded", "userRateLimitExceeded"}
TRANSIENT = (408, 409, 429, 500, 502, 503, 504)
REMEDY = "set API_KEY to a valid key of a project in which the Cloud Translation API and billing are on"


def json_bytes(text: str) -> int:
    """Size of a text inside a request: the client escapes everything beyond ASCII, six bytes a character."""
    return len(json.dumps(text)) + 2


def batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Consecutive texts, as many a batch as a request takes; a text too long for any request stands alone."""
    batch: list[str] = []
    size = ENVELOPE_BYTES
    for text in texts:
        if batch and (len(batch) == MOST_SEGMENTS or size + json_bytes(text) > MOST_BYTES):
            yield batch
            batch, size = [], ENVELOPE_BYTES
        batch.append(text)
        size += json_bytes(text)
    if batch:
        yield batch


class Patience:
    """For one request: which failures are waited out, and how long."""

    def __init__(self, most_retries: int, usage: Usage, notices: WaitNotices) -> None:
        self._most_retries, self._usage, self._notices = most_retries, usage, notices
        self._streak = RefusedStreak()
        self._retries = 0
        self._wait, self._why, self._waited = 0.0, "", 0.0

    def may_pass(self, error: Exception) -> bool:
        """Whether the request is to be sent again; raises AbortRunError where it was refused for very long."""
        if not isinstance(error, RequestFailedError):
            return False
        if error.reason == "rate_limited":
            self._usage.rate_limited += 1
            self._waited = self._streak.refused()
            self._streak.check(error.detail)
            backoff = backoff_seconds(self._streak.refusals, first=1.0)
            self._why = f"Google refuses more for now ({error.detail})"
        elif error.reason == "transient" and self._retries < self._most_retries:
            self._usage.retries += 1
            backoff = backoff_seconds(self._retries)
            self._retries += 1
            self._why = f"to be sent again ({error.detail})"
        else:
            return False
        self._wait = backoff if error.retry_after is None else error.retry_after
        return True

    def waits(self) -> Iterator[float]:
        """The seconds to wait after each failure that may_pass let pass, said where they are many."""
        while True:
            self._notices.say(self._wait, self._why, self._waited)
            yield self._wait


class GoogleTranslate:
    """One client for a run; `translate` gives the service's entries for one batch, in order."""

    def __init__(
        self,
        api_key: str,
        endpoint: str | None,
        most_retries: int,
        timeout_s: float,
        usage: Usage,
        interrupts: Interrupts,
    ) -> None:
        from google.auth.api_key import Credentials
        from google.auth.transport.requests import AuthorizedSession
        from google.cloud.translate_v2 import Client

        # As a client option the key is ignored. A session that refreshes would send each refused request three times.
        credentials = Credentials(api_key)
        session = AuthorizedSession(credentials, max_refresh_attempts=0)
        options = {"api_endpoint": endpoint.rstrip("/")} if endpoint else None
        self._client = Client(credentials=credentials, _http=session, client_options=options)
        self._api_key, self._most_retries, self._usage = api_key, most_retries, usage
        self._interrupts, self._notices = interrupts, WaitNotices()
        # The client offers no setting for its time limit of a minute.
        session.request = _with_timeout(session.request, timeout_s)  # type: ignore[method-assign]

    def translate(self, texts: list[str], language: str) -> list[Json]:
        """Entries with `translatedText`.

        Raises AbortRunError where no other request would fare better, StoppedError after an interrupt, else
        RequestFailedError.
        """
        from google.api_core.retry import retry_target

        if sum(map(json_bytes, texts)) + ENVELOPE_BYTES > MOST_BYTES:
            raise RequestFailedError("too_long", "the text exceeds the 100 KB that a request may hold")
        patience = Patience(self._most_retries, self._usage, self._notices)

        def may_pass(error: Exception) -> bool:
            passes = patience.may_pass(error)
            if passes:  # a signal that came in while the request was under way has not ended anything yet
                self._interrupts.check()
            return passes

        with self._interrupts.waits_between():
            return retry_target(lambda: self._send(texts, language), may_pass, patience.waits())

    def _send(self, texts: list[str], language: str) -> list[Json]:
        import requests
        from google.api_core.exceptions import GoogleAPICallError

        self._usage.requests += 1
        try:
            with self._interrupts.request_under_way():
                return self._client.translate(texts, target_language=language, source_language="en", format_="text")
        except GoogleAPICallError as error:
            raise self._refused(error) from None
        except requests.RequestException as error:
            raise RequestFailedError("transient", self._scrubbed(repr(error))) from None
        except (ValueError, AttributeError) as error:  # cut short, no JSON, or another number of translations
            raise RequestFailedError("transient", self._scrubbed(f"unreadable answer: {error}")[:300]) from None

    def _refused(self, error: "GoogleAPICallError") -> RequestFailedError:
        status = int(error.code or 0)
        reasons = {entry.get("reason") for entry in error.errors if isinstance(entry, dict)}
        wait = retry_after_seconds(error.response.headers) if error.response is not None else None
        body = [error.message, error.errors, error.details]
        detail = self._scrubbed(f"{status}: {own_words(error.message)}")
        if is_quota_spent(status, body):
            raise AbortRunError(f"the quota is used up ({detail}). {QUOTA_REMEDY}")
        if status == 429 or status == 403 and reasons & RATE_REASONS:
            return RequestFailedError("rate_limited", detail, wait)
        if status in (401, 403) or status == 400 and "key" in error.message.casefold():
            raise AbortRunError(f"Google refuses: {detail}. {REMEDY}")
        return RequestFailedError("transient" if status in TRANSIENT else f"http_{status}", detail, wait)

    def _scrubbed(self, text: str) -> str:
        return text.replace(self._api_key, "***")


def _with_timeout(request: Callable[..., Any], timeout_s: float) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Any:
        return request(*args, **{**kwargs, "timeout": timeout_s})

    return timed
