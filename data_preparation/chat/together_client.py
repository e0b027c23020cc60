"""Chat completions through the `together` package: paced, sent again where that can help, counted, the key kept out.

Any OpenAI-compatible server (vLLM, llama.cpp, a stand-in) serves as well: set TOGETHER_BASE_URL.
"""

import json
from collections.abc import Mapping

from chat.provider_errors import QUOTA_REMEDY, cannot_do_format, is_content_filter, is_quota_spent, own_words
from chat.sending import (
    AbortRunError,
    Pace,
    RequestFailedError,
    StopSignal,
    Usage,
    backoff_seconds,
    retry_after_seconds,
)
from chat.settings import ChatSettings
from raw.raw_folder import Json

RATE_LIMITED = (429, 503)
REQUEST_REFUSED = (400, 403, 422)
DEEPEST_REPLY = 100  # levels: a reply that nests deeper could be read, but not written
FORMAT_UNKNOWN = "response_format_unknown"
TRANSIENT = (408, 409)  # and every 5xx but 503, which means the same as 429 here
REMEDIES = {
    "http_401": "the provider does not accept the key: set API_KEY to a valid one",
    "http_403": "the key may not use this model: set MODEL_ID to a model that it may use, or API_KEY to another key",
}


class TogetherChat:
    """One client for a run, which asks the model that the settings name."""

    def __init__(self, settings: ChatSettings, stop: StopSignal, usage: Usage) -> None:
        import httpx
        from together import AsyncTogether, DefaultAsyncHttpxClient

        assert settings.api_key is not None, "ChatSettings wants a key for every model but the phrasebook"
        self._settings, self._stop, self._usage = settings, stop, usage
        self._api_key = settings.api_key.get_secret_value()
        self._pace = Pace(settings.start_in_flight, settings.max_in_flight, stop)
        self._takes_response_format = True
        # Left to itself the SDK keeps 20 connections open: above that, each request pays for a new TLS handshake.
        limits = httpx.Limits(
            max_connections=None, max_keepalive_connections=settings.max_in_flight, keepalive_expiry=60
        )
        # It appends /v1 itself, and would retry unseen by the pace and the count.
        self._client = AsyncTogether(
            api_key=self._api_key,
            base_url=plain_base_url(settings.together_base_url),
            timeout=settings.request_timeout_s,
            max_retries=0,
            http_client=DefaultAsyncHttpxClient(limits=limits),
        )

    async def ask(self, prompt: str, response_format: Json) -> Json:
        """The provider's reply to the prompt, as sent.

        Raises RequestFailedError, AbortRunError, or StoppedError while it waits for its turn.
        """
        request = {
            "model": self._settings.model_id,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": self._settings.temperature,
            "max_tokens": self._settings.max_tokens,
        }
        attempt = 0
        without_format = False
        while True:
            has_format = self._takes_response_format and not without_format
            try:
                return await self._send({**request, "response_format": response_format} if has_format else request)
            except RequestFailedError as error:
                failure = error
            if failure.reason == "rate_limited":
                continue  # the pace has noted it; a rate limit never uses up an attempt
            if failure.reason == FORMAT_UNKNOWN and has_format:
                self._takes_response_format = False
                continue
            if failure.reason in ("http_400", "http_422") and has_format:
                without_format = True  # it does not say why: this one is tried without, the next ones are not
                continue
            if failure.reason in REMEDIES:
                raise AbortRunError(f"{REMEDIES[failure.reason]} ({failure.detail})")
            if not _is_transient(failure.reason) or attempt >= self._settings.max_retries:
                raise failure
            self._usage.retries += 1
            wait = backoff_seconds(attempt) if failure.retry_after is None else failure.retry_after
            self._pace.notices.say(wait, f"{failure.reason}, to be sent again ({failure.detail})")
            await self._stop.sleep(wait)
            attempt += 1

    async def _send(self, request: Json) -> Json:
        import together

        entered = await self._pace.enter()
        self._usage.requests += 1
        try:
            raw = await self._client.chat.completions.with_raw_response.create(**request)
            reply = json.loads(raw.http_response.content)
        except together.APIStatusError as error:
            raise self._refused(error.status_code, error.body, error.response.headers, entered) from None
        except together.APITimeoutError:
            raise RequestFailedError("timeout", "no answer in time") from None
        except together.APIConnectionError as error:
            raise RequestFailedError("connection", self._scrubbed(repr(error.__cause__ or error))) from None
        except (ValueError, RecursionError) as error:
            raise RequestFailedError("unreadable", self._scrubbed(f"the answer is no JSON: {error}")) from None
        finally:
            self._pace.leave()
        if isinstance(reply, dict) and isinstance(reply.get("error"), dict) and not reply.get("choices"):
            code = reply["error"].get("code")  # OpenRouter answers 200 and puts the status in here
            status = code if isinstance(code, int) and 400 <= code < 600 else 502
            raise self._refused(status, reply, raw.http_response.headers, entered)
        if not isinstance(reply, dict) or not isinstance(reply.get("choices"), list) or is_deeper(reply, DEEPEST_REPLY):
            words = self._scrubbed(raw.http_response.text[:300])
            raise RequestFailedError("unreadable", f"the answer is no chat completion: {words}")
        self._pace.succeeded()
        self._usage.add(reply)
        return reply

    def _refused(self, status: int, body: object, headers: Mapping[str, str], entered: float) -> RequestFailedError:
        """What the refusal asks for; raises AbortRunError where no other request would be answered either."""
        wait, words = retry_after_seconds(headers), self._scrubbed(f"{status}: {own_words(body)}")
        if is_quota_spent(status, body):
            raise AbortRunError(f"the quota is used up ({words}). {QUOTA_REMEDY}")
        if status in RATE_LIMITED:
            self._usage.rate_limited += 1
            self._pace.refused(entered, wait, words)
            return RequestFailedError("rate_limited", words, wait)
        if status in REQUEST_REFUSED and is_content_filter(body):
            return RequestFailedError("content_filter", words)
        if status in (400, 422) and cannot_do_format(body):
            return RequestFailedError(FORMAT_UNKNOWN, words)
        return RequestFailedError(f"http_{status}", words, wait)

    def _scrubbed(self, text: str) -> str:
        return text.replace(self._api_key, "***")

    async def close(self) -> None:
        await self._client.close()


def _is_transient(reason: str) -> bool:
    if not reason.startswith("http_"):
        return reason in ("timeout", "connection", "unreadable")
    status = int(reason.removeprefix("http_"))
    return status in TRANSIENT or status >= 500


def is_deeper(value: object, levels: int) -> bool:
    """Whether lists and objects nest in more than so many levels."""
    if not isinstance(value, list | dict):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(is_deeper(held, levels - 1) for held in inner)


def plain_base_url(base_url: str | None) -> str | None:
    """The server's address with neither a trailing slash nor /v1."""
    return base_url.rstrip("/").removesuffix("/v1").rstrip("/") if base_url else None
