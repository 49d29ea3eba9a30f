"""One browser for the tests of a file."""

import pytest
from helpers.browser import launched

browser = pytest.fixture(scope="module")(launched)
