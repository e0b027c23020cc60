"""Chat completions through the `together` package: paced, retried where that can help, counted, the key kept out.

Any OpenAI-compatible server (vLLM, llama.cpp, a stand-in) serves as well: set TOGETHER_BASE_URL.
"""

import email.utils
import json
import time
from dataclasses import dataclass

from adaptive_pace import Pace, Stop, backoff_seconds

RATE_LIMITED = (429, 503)
TRANSIENT = (408, 409)  # and every 5xx but 503, which means the same as 429 here
REMEDIES = {
    401: "the provider does not accept the key: set API_KEY to a valid one",
    403: "the key may not use this model: set MODEL_ID to a model that it may use, or API_KEY to another key",
}


class StopRun(Exception):
    """Every further request would fail alike; the message ends in the remedy."""


class RequestFailed(Exception):
    """One request came to nothing for good; args are the reason (one word) and the detail."""


@dataclass
class Usage:
    """What was sent and what it used, as the provider counts it."""

    requests: int = 0
    retries: int = 0
    rate_limited: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def add(self, reply: dict) -> None:
        used = reply.get("usage") or {}
        self.tokens_in += used.get("prompt_tokens") or 0
        self.tokens_out += used.get("completion_tokens") or 0

    def summary(self, price_in: float | None, price_out: float | None) -> str:
        """One line; prices are per million tokens, in whatever currency they were given."""
        line = (
            f"{self.requests:,} requests ({self.retries:,} retries, {self.rate_limited:,} rate-limited), "
            f"{self.tokens_in:,} tokens in, {self.tokens_out:,} out"
        )
        if price_in is None and price_out is None:
            return line
        return f"{line}, cost {(self.tokens_in * (price_in or 0) + self.tokens_out * (price_out or 0)) / 1e6:.4f}"


class TogetherChat:
    """One client for a run. `ask` gives the provider's reply as sent, or raises StopRun, RequestFailed, Stopped."""

    def __init__(
        self,
        api_key: str,
        base_url: str | None,
        timeout_s: float,
        most_retries: int,
        pace: Pace,
        stop: Stop,
        usage: Usage,
    ) -> None:
        import httpx
        from together import AsyncTogether, DefaultAsyncHttpxClient

        self._api_key = api_key
        self._most_retries = most_retries
        self._pace, self._stop, self._usage = pace, stop, usage
        self._takes_response_format = True
        # Left to itself the SDK keeps 20 connections open: above that, each request pays for a new TLS handshake.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=pace.most, keepalive_expiry=60)
        # It appends /v1 itself, and would retry unseen by the pace and the count.
        self._client = AsyncTogether(
            api_key=api_key,
            base_url=plain_base_url(base_url),
            timeout=timeout_s,
            max_retries=0,
            http_client=DefaultAsyncHttpxClient(limits=limits),
        )

    async def ask(self, request: dict) -> dict:
        """Send one chat completion request until it is answered or cannot be."""
        attempt = 0
        while True:
            sent = self._fitted(request)
            fault = await self._send(sent)
            if isinstance(fault, dict):
                return fault
            reason, detail, retry_after = fault
            if reason == "rate_limited":
                continue  # the pace has noted it; a rate limit never uses up an attempt
            if reason in ("http_400", "http_422") and "response_format" in sent:
                self._takes_response_format = False
                continue
            if reason in ("http_401", "http_403"):
                raise StopRun(f"{REMEDIES[int(reason[-3:])]} ({detail})")
            if not _is_transient(reason) or attempt >= self._most_retries:
                raise RequestFailed(reason, detail)
            self._usage.retries += 1
            await self._stop.sleep(retry_after if retry_after is not None else backoff_seconds(attempt))
            attempt += 1

    def _fitted(self, request: dict) -> dict:
        if self._takes_response_format:
            return request
        return {name: value for name, value in request.items() if name != "response_format"}

    async def _send(self, request: dict) -> dict | tuple[str, str, float | None]:
        """The reply, or (reason, detail, seconds to wait as the server says)."""
        import together

        entered = await self._pace.enter()
        self._usage.requests += 1
        try:
            raw = await self._client.chat.completions.with_raw_response.create(**request)
            reply = json.loads(raw.http_response.content)
            if not isinstance(reply, dict) or not isinstance(reply.get("choices"), list):
                return "unreadable", "the answer is no chat completion", None
        except together.APIStatusError as fault:
            return self._status_fault(fault, entered)
        except together.APITimeoutError:
            return "timeout", "no answer in time", None
        except together.APIConnectionError as fault:
            return "connection", self._scrubbed(repr(fault.__cause__ or fault)), None
        except ValueError as fault:
            return "unreadable", self._scrubbed(f"the answer is no JSON: {fault}"), None
        finally:
            self._pace.leave()
        self._pace.succeeded()
        self._usage.add(reply)
        return reply

    def _status_fault(self, fault, entered: float) -> tuple[str, str, float | None]:
        wait = retry_after_seconds(fault.response.headers)
        if fault.status_code in RATE_LIMITED:
            self._usage.rate_limited += 1
            self._pace.refused(entered, wait)
            return "rate_limited", "", wait
        return f"http_{fault.status_code}", self._scrubbed(fault.message)[:300], wait

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


def retry_after_seconds(headers) -> float | None:
    """Seconds from Retry-After-Ms, or from Retry-After as a number or an HTTP date; None where there is neither."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            return max(0.0, float(headers.get(name)) / unit)
        except (TypeError, ValueError):
            continue
    try:
        return max(0.0, email.utils.parsedate_to_datetime(headers.get("retry-after")).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
