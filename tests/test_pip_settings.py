"""pip's settings, given to uv."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pytest_rllm.engines.pip_settings import UvSettings, uv_settings

LISTING = """\
:env:.find-links='/a /b'
:env:.timeout='180'
download.index-url='https://download.invalid/simple'
global.cert='/ca.pem'
global.constraint='/c.txt'
global.extra-index-url='https://two.invalid/simple\\nfile:///three'
global.find-links='/overridden'
global.index-url='https://one.invalid/simple'
global.no-index='false'
global.trusted-host='one.invalid two.invalid:8443'
install.constraint='/later.txt'
"""


def test_each_setting_of_pip_has_its_counterpart() -> None:
    assert uv_settings(LISTING, {}) == UvSettings(
        {
            "UV_DEFAULT_INDEX": "https://one.invalid/simple",
            "UV_INDEX": "https://two.invalid/simple file:///three",
            "UV_FIND_LINKS": "/a,/b",
            "UV_CONSTRAINT": "/later.txt",
            "UV_INSECURE_HOST": "one.invalid two.invalid:8443",
            "SSL_CERT_FILE": "/ca.pem",
            "UV_HTTP_TIMEOUT": "180",
            "UV_INDEX_STRATEGY": "unsafe-best-match",
        }
    )


def test_what_uv_is_told_itself_stays() -> None:
    told = {
        "UV_INDEX_URL": "https://mine.invalid/simple",
        "UV_EXTRA_INDEX_URL": "https://mine.invalid/more",
        "SSL_CERT_FILE": "/mine.pem",
        "UV_FIND_LINKS": "",
    }
    settings = uv_settings(LISTING, told)
    assert settings.variables.keys() == {
        "UV_FIND_LINKS",
        "UV_CONSTRAINT",
        "UV_INSECURE_HOST",
        "UV_HTTP_TIMEOUT",
    }


@pytest.mark.parametrize("text", ["1", "true", "True", "yes", "on"])
def test_no_index_is_an_option_because_uv_has_no_variable_for_it(text: str) -> None:
    listing = f"global.no-index='{text}'\n"
    assert uv_settings(listing, {}) == UvSettings({}, ("--no-index",))
    assert uv_settings(listing, {"UV_INDEX": "https://mine.invalid"}) == UvSettings({})


def test_nothing_configured_and_an_option_that_was_emptied() -> None:
    assert uv_settings("", {}) == UvSettings()
    assert uv_settings("global.constraint='/c.txt'\n:env:.constraint=''\n", {}) == UvSettings()


def test_the_listing_is_what_pip_prints(tmp_path: Path) -> None:
    configuration = tmp_path / "pip.conf"
    configuration.write_text(
        "[global]\nindex-url = https://o'ne.invalid/simple?a=b.c\nextra-index-url =\n"
        "    https://two.invalid/\n    https://three.invalid/\n[install]\nno-index = yes\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        env={"PIP_CONFIG_FILE": str(configuration), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    own = {
        "UV_DEFAULT_INDEX": "https://o'ne.invalid/simple?a=b.c",
        "UV_INDEX": "https://two.invalid/ https://three.invalid/",
    }
    settings = uv_settings(done.stdout, {})
    assert own.items() <= settings.variables.items()
    assert settings.options == ("--no-index",)
