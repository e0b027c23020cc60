"""Google Cloud Translation v2 by API key: batches within its limits, quota refusals waited out, others told apart.

Limits as documented: 128 segments and 100 KB a request. Quota refusals are 403 with reason rateLimitExceeded or
userRateLimitExceeded; every other 403 (key, billing, API off, daily quota) stays as it is until a person acts.
"""

import json
import sys
import time
from collections.abc import Iterable, Iterator

from adaptive_pace import backoff_seconds
from together_chat import RequestFailed, StopRun, Usage, retry_after_seconds

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
        session.request = _with_timeout(session.request, timeout_s)

    def translate(self, texts: list[str], language: str) -> list[dict]:
        """Entries with `translatedText`; raises StopRun where nothing else would fare better, else RequestFailed."""
        if sum(map(json_bytes, texts)) + ENVELOPE_BYTES > MOST_BYTES:
            raise RequestFailed("too_long", "the text exceeds the 100 KB that a request may hold")
        attempt = refusals = 0
        while True:
            self._usage.requests += 1
            fault = self._send(texts, language)
            if isinstance(fault, list):
                return fault
            reason, detail, wait = fault
            if reason == "rate_limited":
                self._usage.rate_limited += 1
                refusals += 1
                _pause(backoff_seconds(refusals, first=1.0) if wait is None else wait)
                continue
            if reason != "transient" or attempt >= self._most_retries:
                raise RequestFailed(reason, detail)
            self._usage.retries += 1
            _pause(backoff_seconds(attempt) if wait is None else wait)
            attempt += 1

    def _send(self, texts: list[str], language: str) -> list[dict] | tuple[str, str, float | None]:
        import requests
        from google.api_core.exceptions import GoogleAPICallError

        try:
            return self._client.translate(texts, target_language=language, source_language="en", format_="text")
        except GoogleAPICallError as fault:
            return self._status_fault(fault)
        except requests.RequestException as fault:
            return "transient", self._scrubbed(repr(fault)), None
        except (ValueError, AttributeError) as fault:  # cut short, no JSON, or another number of translations
            return "transient", self._scrubbed(f"unreadable answer: {fault}")[:300], None

    def _status_fault(self, fault) -> tuple[str, str, float | None]:
        status = int(fault.code)
        reasons = {error.get("reason") for error in fault.errors if isinstance(error, dict)}
        wait = retry_after_seconds(fault.response.headers) if fault.response is not None else None
        detail = self._scrubbed(f"{status} {fault.message}")[:300]
        if status in (403, 429) and reasons & RATE_REASONS or status == 429:
            return "rate_limited", detail, wait
        if status in (401, 403) or status == 400 and "key" in fault.message.casefold():
            raise StopRun(f"Google refuses: {detail}. {REMEDY}")
        return ("transient" if status in TRANSIENT else f"http_{status}"), detail, wait

    def _scrubbed(self, text: str) -> str:
        return text.replace(self._api_key, "***")


def _with_timeout(request, timeout_s: float):
    """The library's own time limit of a minute cannot be set from outside."""

    def timed(*args, **kwargs):
        return request(*args, **{**kwargs, "timeout": timeout_s})

    return timed


def _pause(seconds: float) -> None:
    if seconds > LONGEST_QUIET_WAIT_S:
        print(f"waiting {seconds:.0f} s, as the service asks", file=sys.stderr, flush=True)
    time.sleep(seconds)
