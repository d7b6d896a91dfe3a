"""The host that the tests run on, as its administrator sees it."""

import contextlib
import http.client
import json
import pathlib
import ssl
import subprocess
import time

SERVICES = ("user", "email", "product", "cart", "payment", "stats")
UNITS = [f"coster-{s}@{n}" for s in SERVICES for n in (1, 2)]
DEBS = pathlib.Path("/coster/build/deb")
PLAIN_PORT = 8080


def sh(command, user=None, **kw):
    """What it prints; fails with that when it fails."""
    done = try_sh(command, user, **kw)
    assert done.returncode == 0, f"{command}: status {done.returncode}\n{done.stdout}"
    return done.stdout


def try_sh(command, user=None, **kw):
    args = ["bash", "-euo", "pipefail", "-c", command]
    if user:
        args = ["runuser", "-u", user, "--", *args]
    return subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=120, cwd="/", **kw)


def eventually(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        time.sleep(0.005)
    return result


def deb(service, version="*"):
    path, = (p for p in DEBS.glob(f"coster-{service}_{version}_*.deb"))
    return path


def show(unit, what):
    return sh(f"systemctl show --value -p {what} {unit}").strip()


def pid(unit):
    return int(show(unit, "MainPID"))


class Reply:
    def __init__(self, response):
        self.status, self.headers, self.text = response.status, response.headers, response.read().decode()

    @property
    def json(self):
        return json.loads(self.text)

    def __repr__(self):
        return f"{self.status} {self.text[:1000]}"


def ask(method, path, body=None, token=None, expect=None, host="shop.test", port=443,
        source="127.0.0.1", accept=None):
    """By TLS, with the certificate checked, unless it is another port."""
    headers = {"Host": host}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if accept:
        headers["Accept"] = accept
    if body is not None:
        headers["Content-Type"] = "application/json"
        body = json.dumps(body)
    if port == 443:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20,
            source_address=(source, 0),
            context=ssl.create_default_context(cafile="/etc/ssl/certs/shop.example.pem"))
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20,
            source_address=(source, 0))
    with contextlib.closing(connection):
        connection.request(method, path, body, headers)
        reply = Reply(connection.getresponse())
    assert expect in (None, reply.status), f"{method} {path}: expected {expect}: {reply}"
    return reply
