"""What several tests of this folder need."""

import pytest

from drawing.text_layout import MissingFontsError, require_fonts


@pytest.fixture(scope="session")
def fonts() -> None:
    """Skips a test that draws where Debian's fonts are not installed."""
    try:
        require_fonts()
    except MissingFontsError as missing:
        pytest.skip(f"drawing needs fonts: {missing}")
