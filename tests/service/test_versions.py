"""A release's version is MAJOR.MINOR.PATCH and nothing that looks like it."""

import pytest

from service.domain.errors import InputRefused
from service.domain.versions import check_version


@pytest.mark.parametrize("version", ["0.0.0", "1.0.0", "10.20.30", "999999.0.1"])
def test_three_whole_numbers_are_a_version(version):
    check_version(version)


@pytest.mark.parametrize(
    "version",
    ["", "1", "1.0", "1.0.0.0", "v1.0.0", "01.0.0", "1.00.0", "1.0.0-rc.1", "1.0.0\n", " 1.0.0",
     "1.0.1000000", "-1.0.0", "\u0661.0.0", "1,0,0", "../1.0.0"],
)  # fmt: skip
def test_anything_else_is_refused_with_what_to_write_instead(version):
    with pytest.raises(InputRefused, match=r"no MAJOR\.MINOR\.PATCH\. Write three whole numbers"):
        check_version(version)
