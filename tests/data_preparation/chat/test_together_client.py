"""The client's address; all else is tested through the scripts, against the stand-in server."""

import pytest

from chat.together_client import plain_base_url


@pytest.mark.parametrize("address", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_the_sdk_adds_v1_itself(address):
    assert plain_base_url(address) == "http://h:1" and plain_base_url(None) is None
