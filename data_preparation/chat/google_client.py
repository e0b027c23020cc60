"""Google Cloud Translation v2 by API key: batches within its limits, a quota waited out, a refused key ends the run.

Limits as documented: 128 segments and 100 KB a request. Quota refusals are 403 with reason rateLimitExceeded or
userRateLimitExceeded; every other 403 (key, billing, API off, daily quota) stays as it is until a person acts.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from chat.sending import AbortRunError, RequestFailedError, Usage, backoff_seconds, retry_after_seconds
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
LONGEST_QUIET_WAIT_S = 5.0


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


class GoogleTranslate:
    """One client for a run; `translate` gives the service's entries for one batch, in order."""

    def __init__(self, api_key: str, endpoint: str | None, most_retries: int, timeout_s: float, usage: Usage) -> None:
        from google.auth.api_key import Credentials
        from google.auth.transport.requests import AuthorizedSession
        from google.cloud.translate_v2 import Client

        # As a client option the key is ignored. A session that refreshes would send each refused request three times.
        credentials = Credentials(api_key)
        session = AuthorizedSession(credentials, max_refresh_attempts=0)
        options = {"api_endpoint": endpoint.rstrip("/")} if endpoint else None
        self._client = Client(credentials=credentials, _http=session, client_options=options)
        self._api_key, self._most_retries, self._usage = api_key, most_retries, usage
        # The client offers no setting for its time limit of a minute.
        session.request = _with_timeout(session.request, timeout_s)  # type: ignore[method-assign]

    def translate(self, texts: list[str], language: str) -> list[Json]:
        """Entries with `translatedText`.

        Raises AbortRunError where no other request would fare better, else RequestFailedError.
        """
        if sum(map(json_bytes, texts)) + ENVELOPE_BYTES > MOST_BYTES:
            raise RequestFailedError("too_long", "the text exceeds the 100 KB that a request may hold")
        attempt = refusals = 0
        while True:
            self._usage.requests += 1
            try:
                return self._send(texts, language)
            except RequestFailedError as error:
                failure = error
            if failure.reason == "rate_limited":
                self._usage.rate_limited += 1
                refusals += 1
                _pause(backoff_seconds(refusals, first=1.0) if failure.retry_after is None else failure.retry_after)
                continue
            if failure.reason != "transient" or attempt >= self._most_retries:
                raise failure
            self._usage.retries += 1
            _pause(backoff_seconds(attempt) if failure.retry_after is None else failure.retry_after)
            attempt += 1

    def _send(self, texts: list[str], language: str) -> list[Json]:
        import requests
        from google.api_core.exceptions import GoogleAPICallError

        try:
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
        detail = self._scrubbed(f"{status} {error.message}")[:300]
        if status in (403, 429) and reasons & RATE_REASONS or status == 429:
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


def _pause(seconds: float) -> None:
    if seconds > LONGEST_QUIET_WAIT_S:
        print(f"waiting {seconds:.0f} s, as the service asks", file=sys.stderr, flush=True)
    time.sleep(seconds)
