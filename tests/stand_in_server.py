"""A local server that speaks Together's chat completions and Google Translate v2, with faults by script.

    with StandIn(script=[Fault(status=429, headers={"Retry-After": "1"}), None]) as server:
        ... TOGETHER_BASE_URL=server.url  or  GOOGLE_TRANSLATE_ENDPOINT=server.url

The script is a list (the n-th request gets the n-th entry, None and what lies beyond it is answered well) or a function
of the request. A rate makes a token bucket before it, which answers 429.
"""

import json
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HAN = "今天我们一起去吃饭看书学习工作回家朋友大家都很开心"
TAMIL_WORDS = ("இன்று", "நாங்கள்", "சாப்பிட", "வீட்டில்", "நண்பர்கள்", "மழை")
MALAY_WORDS = ("hari", "kami", "makan", "rumah", "kawan", "hujan")
SUBJECTS = (
    "cat",
    "kettle",
    "bus",
    "umbrella",
    "laptop",
    "teacher",
    "noodle",
    "kite",
    "drum",
    "lantern",
    "goat",
    "ferry",
)


@dataclass
class Fault:
    """How one request is answered instead of well; what is not given is as in a good answer."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    latency_s: float = 0.0
    content: str | None = None  # of the chat message
    finish_reason: str = "stop"
    body: bytes | None = None  # instead of the whole answer
    cut_after: int | None = None  # bytes of the body after which the connection is reset
    translations: list[str] | None = None  # of the Google answer


@dataclass
class Request:
    """One request as it came in: its number from 0, the moment (monotonic), headers and JSON body."""

    number: int
    moment: float
    path: str
    headers: dict[str, str]
    body: dict
    size: int
    status: int = 0

    @property
    def texts(self) -> list[str]:
        """What a translation request asks to translate, by either API."""
        if "q" in self.body:
            return self.body["q"]
        return json.loads(self.body["messages"][0]["content"].split("The texts, as JSON:")[1])


class StandIn:
    """The server, running in threads from `with` to its end; `requests` holds what came in."""

    def __init__(
        self,
        script: list[Fault | None] | Callable[[Request], Fault | None] = (),
        latency_s: float = 0.0,
        rate: float | None = None,
        burst: int = 1,
    ) -> None:
        self.requests: list[Request] = []
        self.most_at_once = 0
        self.connections = 0
        self._script, self._latency_s = script, latency_s
        self._rate, self._burst = rate, burst
        self._tokens, self._filled = float(burst), time.monotonic()
        self._at_once = 0
        self._changed = threading.Condition()
        self._server = _Server(("127.0.0.1", 0), _handler_of(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "StandIn":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait_for(self, count: int, timeout_s: float = 30.0) -> bool:
        """True as soon as `count` requests have come in."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.requests) >= count, timeout_s)

    def statuses(self) -> list[int]:
        return [request.status for request in self.requests]

    def arrived(self, path: str, headers: dict[str, str], body: dict, size: int) -> tuple[Request, Fault | None]:
        with self._changed:
            request = Request(len(self.requests), time.monotonic(), path, headers, body, size)
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self._changed.notify_all()
            wait = self._take_token()
        if wait is not None:
            return request, Fault(status=429, headers={"Retry-After": str(max(1, math.ceil(wait)))})
        fault = (
            self._script(request)
            if callable(self._script)
            else (self._script[request.number] if request.number < len(self._script) else None)
        )
        time.sleep(fault.latency_s if fault and fault.latency_s else self._latency_s)
        return request, fault

    def connected(self) -> None:
        with self._changed:
            self.connections += 1

    def left(self) -> None:
        with self._changed:
            self._at_once -= 1

    def _take_token(self) -> float | None:
        """None where the rate permits the request, else the seconds until it would."""
        if self._rate is None:
            return None
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        if self._tokens >= 1:
            self._tokens -= 1
            return None
        return (1 - self._tokens) / self._rate


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address) -> None:
        """A client that was killed in flight is part of the tests."""


def _handler_of(stand_in: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            stand_in.connected()

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.casefold(): value for name, value in self.headers.items()}
            request, fault = stand_in.arrived(self.path.split("?")[0], headers, json.loads(raw), len(raw))
            try:
                self._answer(request, fault or Fault())
            finally:
                stand_in.left()

        def _answer(self, request: Request, fault: Fault) -> None:
            status, body = answer(request, fault)
            request.status = status
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **fault.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: fault.cut_after])
            if fault.cut_after is not None:
                self.wfile.flush()
                self.close_connection = True

        def log_message(self, *_) -> None:
            pass

    return Handler


def answer(request: Request, fault: Fault) -> tuple[int, bytes]:
    """Status and body of the answer that the fault makes of a good one."""
    if fault.body is not None:
        return fault.status, fault.body
    if fault.status != 200:
        return fault.status, json.dumps({"error": {"message": f"stand-in says {fault.status}"}}).encode()
    if request.path.endswith("/v1/chat/completions"):
        return 200, json.dumps(chat_completion(request, fault)).encode()
    if request.path.endswith("/language/translate/v2"):
        texts = fault.translations
        if texts is None:
            texts = [translated(text, request.body["target"]) for text in request.body["q"]]
        return 200, json.dumps({"data": {"translations": [{"translatedText": text} for text in texts]}}).encode()
    return 404, b'{"error": {"message": "no such path"}}'


def chat_completion(request: Request, fault: Fault) -> dict:
    prompt = request.body["messages"][0]["content"]
    content = fault.content
    if content is None and "The texts, as JSON:" in prompt:
        codes = {"Chinese": "zh", "Malay": "ms", "Tamil": "ta"}
        code = next(code for name, code in codes.items() if f"into {name}" in prompt)
        content = json.dumps({"translations": [translated(text, code) for text in request.texts]})
    elif content is None:
        content = json.dumps({"memes": memes(request.number)})
    return {
        "id": f"stand-in-{request.number}",
        "object": "chat.completion",
        "created": 1,
        "model": request.body["model"],
        "choices": [
            {"index": 0, "finish_reason": fault.finish_reason, "message": {"role": "assistant", "content": content}}
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150},
    }


def memes(number: int) -> list[dict[str, str]]:
    """Five items that no other request gets."""
    return [
        {
            "image": f"a {SUBJECTS[(number + index) % len(SUBJECTS)]} on a table",
            "text": f"when {SUBJECTS[(number * 5 + index) % len(SUBJECTS)]} number {number * 5 + index} is late again",
        }
        for index in range(5)
    ]


def translated(text: str, code: str) -> str:
    """Words of the language in the number of the text's own, different for different texts."""
    words = text.split()
    picks = [sum(map(ord, word)) for word in words]
    if code == "zh":
        return "".join(HAN[pick % len(HAN)] + HAN[(pick // 7) % len(HAN)] for pick in picks)
    vocabulary = TAMIL_WORDS if code == "ta" else MALAY_WORDS
    return " ".join(vocabulary[pick % len(vocabulary)] for pick in picks)
