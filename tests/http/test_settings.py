"""Every setting is where an administrator looks for it: in --help, in the README, in
coster.env(5), and with its default in the example files."""

import re
import subprocess

import pytest

from stack import BUILD, ROOT, SERVICES

# The units set these, so they are in no file of an administrator.
OF_THE_UNITS = {"COSTER_DB", "COSTER_KEY_FILE", "COSTER_JWKS_FILE", "COSTER_INTERNAL_SOCKET",
    "COSTER_INSTANCE", "COSTER_SIGNING_KEY_FILE"}


def settings(service):
    """Name and default of each."""
    text = subprocess.run([BUILD / f"coster-{service}", "--help"], capture_output=True, text=True,
        check=True, timeout=20).stdout
    found = dict(re.findall(r"^  (COSTER_\w+) .*?(?:\[(.*)\])?$", text, re.M))
    assert len(found) > len(OF_THE_UNITS), text
    return found


@pytest.mark.parametrize("service", SERVICES)
def test_settings_are_documented(service):
    readme = (ROOT / "README").read_text()
    manual = (ROOT / "debian/man/coster.env.5").read_text()
    examples = "".join((ROOT / f"systemd/env/{name}.env").read_text() for name in ("coster", service))
    for name, default in settings(service).items():
        assert re.search(rf"\b{name}\b", readme), f"{name} is not in the README"
        assert f".It Ev {name}\n" in manual, f"{name} is not in coster.env(5)"
        if name not in OF_THE_UNITS:
            assert f"\n#{name}=" in examples, f"{name} is not in systemd/env"
            example, = re.findall(rf"^#{name}=(.*)$", examples, re.M)
            if name != "COSTER_PUBLIC_URL":
                assert example == (default or ""), name
