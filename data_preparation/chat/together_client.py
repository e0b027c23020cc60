"""Chat completions through the `together` package: paced, sent again where that can help, counted, the key kept out.

Any OpenAI-compatible server (vLLM, llama.cpp, a stand-in) serves as well: set TOGETHER_BASE_URL.
"""

import json
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from together import APIStatusError

RATE_LIMITED = (429, 503)
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
        while True:
            has_format = self._takes_response_format
            try:
                return await self._send({**request, "response_format": response_format} if has_format else request)
            except RequestFailedError as error:
                failure = error
            if failure.reason == "rate_limited":
                continue  # the pace has noted it; a rate limit never uses up an attempt
            if failure.reason in ("http_400", "http_422") and has_format:
                self._takes_response_format = False
                continue
            if failure.reason in REMEDIES:
                raise AbortRunError(f"{REMEDIES[failure.reason]} ({failure.detail})")
            if not _is_transient(failure.reason) or attempt >= self._settings.max_retries:
                raise failure
            self._usage.retries += 1
            await self._stop.sleep(backoff_seconds(attempt) if failure.retry_after is None else failure.retry_after)
            attempt += 1

    async def _send(self, request: Json) -> Json:
        import together

        entered = await self._pace.enter()
        self._usage.requests += 1
        try:
            raw = await self._client.chat.completions.with_raw_response.create(**request)
            reply = json.loads(raw.http_response.content)
        except together.APIStatusError as error:
            raise self._refused(error, entered) from None
        except together.APITimeoutError:
            raise RequestFailedError("timeout", "no answer in time") from None
        except together.APIConnectionError as error:
            raise RequestFailedError("connection", self._scrubbed(repr(error.__cause__ or error))) from None
        except ValueError as error:
            raise RequestFailedError("unreadable", self._scrubbed(f"the answer is no JSON: {error}")) from None
        finally:
            self._pace.leave()
        if not isinstance(reply, dict) or not isinstance(reply.get("choices"), list):
            raise RequestFailedError("unreadable", "the answer is no chat completion")
        self._pace.succeeded()
        self._usage.add(reply)
        return reply

    def _refused(self, error: "APIStatusError", entered: float) -> RequestFailedError:
        wait = retry_after_seconds(error.response.headers)
        if error.status_code in RATE_LIMITED:
            self._usage.rate_limited += 1
            self._pace.refused(entered, wait)
            return RequestFailedError("rate_limited", "", wait)
        return RequestFailedError(f"http_{error.status_code}", self._scrubbed(error.message)[:300], wait)

    def _scrubbed(self, text: str) -> str:
        return text.replace(self._api_key, "***")

    async def close(self) -> None:
        await self._client.close()


def _is_transient(reason: str) -> bool:
    if not reason.startswith("http_"):
        return reason in ("timeout", "connection", "unreadable")
    status = int(reason.removeprefix("http_"))
    return status in TRANSIENT or status >= 500


def plain_base_url(base_url: str | None) -> str | None:
    """The server's address with neither a trailing slash nor /v1."""
    return base_url.rstrip("/").removesuffix("/v1").rstrip("/") if base_url else None
