import subprocess

import pytest


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport():
    """What the host had to say, beside what failed."""
    report = (yield).get_result()
    if report.failed:
        for title, command in (("services", "journalctl --no-pager -o cat -p 5 -n 40"),
                ("journal", "journalctl --no-pager -o short-precise -n 60 | grep -v event=request"),
                ("nginx", "tail -n 20 /var/log/nginx/error.log")):
            output = subprocess.run(command, shell=True, capture_output=True, text=True).stdout
            report.sections.append((title, output))
