"""What the scripts that ask a service have in common: which model, with which key, how often, at what price."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    model_validator,
)

from chat.phrasebook_source import PHRASEBOOK
from raw.script_settings import ScriptSettings
from raw.shards import WHOLE, known_shard

FOLDER = Path(__file__).resolve().parents[1]  # data_preparation/


class ServiceSettings(ScriptSettings):
    """Settings of every script that sends requests to a service."""

    shard: Annotated[str, AfterValidator(known_shard)] = Field(
        WHOLE,
        description="this machine's part of the work, i/n: 1/4, 2/4, 3/4 and 4/4 on four machines; 1/1 is all of it",
    )
    max_retries: NonNegativeInt = Field(
        6,
        description="times a request is sent again after a passing error; rate limits are waited out and do not count, "
        "a quota that is used up ends the run",
    )
    request_timeout_s: PositiveFloat = Field(120.0, description="seconds to wait for one reply")


class ChatSettings(ServiceSettings):
    """Settings of every script that asks a chat model, or the phrasebook in its place."""

    model_id: str = Field(
        PHRASEBOOK,
        min_length=1,
        description=f"model to ask through the together package; {PHRASEBOOK} is the phrasebook, which knows its own "
        "memes only and needs no key and no network",
    )
    api_key: SecretStr | None = Field(None, description=f"the provider's key; needed unless MODEL_ID={PHRASEBOOK}")
    temperature: NonNegativeFloat = Field(description="sampling temperature")
    max_tokens: PositiveInt = Field(2048, description="longest reply in tokens; raise it when replies are cut off")
    max_attempts: PositiveInt = Field(3, description="times a run or a text is requested when its reply is unusable")
    start_in_flight: PositiveInt = Field(8, description="requests in flight at first; adapts from there")
    max_in_flight: PositiveInt = Field(32, description="most requests in flight")
    together_base_url: str | None = Field(
        None, description="address of another OpenAI-compatible server, with or without /v1, such as a local vLLM"
    )
    price_per_mtoken_in: NonNegativeFloat | None = Field(None, description="price of a million tokens in, for the sum")
    price_per_mtoken_out: NonNegativeFloat | None = Field(None, description="price of a million tokens out")
    phrasebook_dir: Path = Field(
        FOLDER / "phrasebook", description="folder of the phrasebook, read where no chat model is asked"
    )

    @property
    def uses_phrasebook(self) -> bool:
        return self.model_id == PHRASEBOOK

    @model_validator(mode="after")
    def key_for_a_provider(self) -> Self:
        if not self.uses_phrasebook and self.api_key is None:
            raise ValueError(
                f"API_KEY is not set: {self.model_id} is asked over the network; set API_KEY to the "
                f"provider's key, or MODEL_ID={PHRASEBOOK} to need none"
            )
        return self
