"""What providers' refusals mean, by bodies such as they send them: pay, wait, another prompt, another option."""

import pytest

from chat.provider_errors import cannot_do_format, is_content_filter, is_quota_spent, own_words


def openai(message, **more):
    return {"error": {"message": message, **more}}


def google(message, reason="rateLimitExceeded", **metadata):
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "RATE_LIMIT_EXCEEDED", "metadata": metadata}
    return {"error": {"message": message, "errors": [{"message": message, "reason": reason}], "details": [info]}}


def gemini(quota_id):
    message = "You exceeded your current quota, please check your plan and billing details. Please retry in 34s."
    violation = {"quotaId": quota_id, "quotaMetric": "generativelanguage.googleapis.com/free_tier_requests"}
    return [{"error": {"code": 429, "message": message, "details": [{"violations": [violation]}]}}]


SPENT = [
    (
        429,
        openai(
            "You exceeded your current quota, please check your plan and billing details.", code="insufficient_quota"
        ),
    ),
    (429, openai("No.", type="insufficient_quota", code=None)),
    (402, openai("Insufficient Balance")),
    (402, "Payment Required"),
    (402, {}),
    (429, openai("Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 requests per day")),
    (
        429,
        openai("Rate limit reached for model `x` on tokens per day (TPD): Limit 100000, Used 99900", code="rate_limit"),
    ),
    (429, openai("Your account is suspended, check your plan and billing", type="exceeded_current_quota_error")),
    (429, openai("You have reached your monthly spending limit")),
    (400, openai("Your credit balance is too low to access the API.")),
    (403, google("Daily Limit Exceeded", "dailyLimitExceeded")),
    (403, google("User Rate Limit Exceeded", "userRateLimitExceeded", quota_limit="CharactersPerDayPerProjectPerUser")),
    (
        429,
        google("Quota exceeded for metric 'general characters' and limit 'characters per day per user' of 'translate'"),
    ),
    (429, google("Quota exceeded.", quota_limit="v2DailyCharacters", quota_unit="1/d/{project}")),
    (429, gemini("GenerateRequestsPerDayPerProjectPerModel-FreeTier")),
    (429, {"code": "1113", "message": "您的账户已欠费，请充值后重试"}),
    (429, openai("账户余额不足")),
]
SLOW_DOWN = [
    (429, openai("Rate limit reached for gpt-x on requests per min (RPM): Limit 3, Used 3. Please try again in 20s.")),
    (429, openai("You have reached the rate limit specific to this model (0.6 queries per minute).")),
    (
        429,
        openai("Requests have exceeded token rate limit of your current pricing tier. Please retry after 6 seconds."),
    ),
    (429, openai("Too many requests (20 per minute). Add credits to raise your limit.")),
    (429, gemini("GenerateRequestsPerMinutePerProjectPerModel-FreeTier")),
    (
        429,
        google("Quota exceeded for limit 'characters per minute per project per user'", quota_unit="1/min/{project}"),
    ),
    (403, google("User Rate Limit Exceeded", "userRateLimitExceeded")),
    (403, google("Rate Limit Exceeded")),
    (503, openai("The server is overloaded")),
    (429, "stand-in says 429"),
    (429, None),
    (500, openai("insufficient_quota while shutting down")),
    (400, openai("messages: the user's daily text is no string")),
]


@pytest.mark.parametrize(("status", "body"), SPENT)
def test_a_quota_that_is_used_up_is_known(status, body):
    assert is_quota_spent(status, body)


@pytest.mark.parametrize(("status", "body"), SLOW_DOWN)
def test_it_is_told_from_a_request_to_slow_down(status, body):
    assert not is_quota_spent(status, body)


NO_FORMAT = [
    openai("response_format json_schema is not supported by this model", param="response_format"),
    openai("This response_format type is unavailable now"),
    openai("This model does not support response format `json_schema`."),
    {
        "detail": [
            {"loc": ["body", "response_format"], "msg": "Extra inputs are not permitted", "type": "extra_forbidden"}
        ]
    },
    openai("'response_format.type' must be 'json_object' or 'text'"),
    openai("Invalid schema for response_format 'memes'"),
    openai("failed to parse grammar"),
    "JSON mode is not supported for this model",
]
FILTERED = [
    openai(
        "The response was filtered due to the prompt triggering the content management policy.", code="content_filter"
    ),
    openai("Output data may contain inappropriate content.", code="DataInspectionFailed"),
    openai("Your request was flagged as potentially violating our usage policy"),
    openai("The response_format was not reached: content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}),
]
OTHER = [
    openai("This model's maximum context length is 4096 tokens"),
    openai("stand-in says 400"),
    openai("Failed to generate JSON. Please adjust your prompt.", code="json_validate_failed"),
    "",
    None,
]


def test_only_a_server_that_says_so_cannot_do_the_format():
    assert all(cannot_do_format(body) and not is_content_filter(body) for body in NO_FORMAT)
    assert not any(cannot_do_format(body) or is_content_filter(body) for body in OTHER)


def test_a_filter_is_known_whatever_else_it_names():
    assert all(map(is_content_filter, FILTERED))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (openai("No  more\ntoday", code="x"), "No more today"),
        ([{"error": {"message": "listed"}}], "listed"),
        ({"error": "plain"}, "plain"),
        ({"message": "bare"}, "bare"),
        ("<html>busy</html>", "<html>busy</html>"),
        (None, ""),
        ("x" * 1000, "x" * 300),
    ],
)
def test_the_providers_own_words_are_one_short_line(body, words):
    assert own_words(body) == words
