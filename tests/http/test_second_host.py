"""The statistics on a second host, both ways that the README has: two shops in network
namespaces of their own, of which the first asks the second one's stats. What is public,
internal or a service's call stays that."""

import contextlib
import json
import os
import re
import signal
import subprocess

import pytest

from shop import Shop
from stack import BUILD, ROOT, Stack, eventually
from trouble import Clients, number, rows

FIRST, SECOND = "10.0.0.1", "10.0.0.2"    # the README's
PORT = 8080    # of the first host's site, for the network
README = (ROOT / "README").read_text()


pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can make two hosts")


class Host:
    """A network namespace."""

    def __init__(self):
        self.process = subprocess.Popen(["unshare", "--net", "sleep", "600"])
        self.enter = ["nsenter", "--target", str(self.process.pid), "--net"]
        before = os.readlink("/proc/self/ns/net")
        eventually(lambda: os.readlink(f"/proc/{self.process.pid}/ns/net") != before
            and b"sleep" in open(f"/proc/{self.process.pid}/cmdline", "rb").read().split(b"\0")[0])
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *command, **more):
        return subprocess.run([*self.enter, *command], check=True, timeout=30, capture_output=True,
            text=True, **more).stdout

    def ask(self, url, *arguments):
        """Status and body."""
        text = self.run("curl", "-q", "-sS", "--max-time", "20", "-w", "\n%{http_code}", url, *arguments)
        body, _, status = text.rpartition("\n")
        return int(status), body

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def hosts():
    with contextlib.ExitStack() as stack:
        first, second = Host(), Host()
        stack.callback(first.stop)
        stack.callback(second.stop)
        first.run("ip", "link", "add", "to2", "type", "veth", "peer", "name", "to1", "netns",
            str(second.process.pid))
        for host, address, link in ((first, FIRST, "to2"), (second, SECOND, "to1")):
            host.run("ip", "address", "add", f"{address}/24", "dev", link)
            host.run("ip", "link", "set", link, "up")
        yield first, second


def readme_lines(pattern):
    """Those of the README's indented lines that match, as one has to type them."""
    lines = [line.strip() for line in README.splitlines() if re.match("    +" + pattern, line)]
    assert lines, pattern
    return lines


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Of two authorities; only the first is to be believed."""
    made = [tmp_path_factory.mktemp("authority") for _ in range(2)]
    for folder in made:
        for line in readme_lines("openssl .*peer"):
            subprocess.run(line, shell=True, check=True, cwd=folder, capture_output=True, timeout=30)
    return made


@pytest.fixture(scope="module")
def shops(hosts, certificates, tmp_path_factory):
    extra = tmp_path_factory.mktemp("nginx")
    public = extra / "public.conf"
    first = second = None

    def has_certificate(state):
        (state / "keys").mkdir()
        for name in ("peers.crt", "peer.crt", "peer.key"):
            (state / "keys" / name).write_bytes((certificates[0] / name).read_bytes())

    def has_keys(state):
        has_certificate(state)
        for name in ("coster.key", "signing.jwk", "jwks.json"):
            (state / "keys" / name).write_bytes((first.state / "keys" / name).read_bytes())

    def prepare_first(state):
        has_certificate(state)
        public.write_text(f"server {{ listen {FIRST}:{PORT}; include {state}/nginx/site.conf; }}\n"
            + "\n".join(readme_lines("upstream coster_second")) + "\n")

    def prepare_second(state):
        has_keys(state)
        peer = (ROOT / "nginx/coster-peer.conf").read_text()
        (extra / "peer.conf").write_text(peer.replace("/etc/coster", f"{state}/keys")
            .replace("/etc/nginx/coster", f"{state}/nginx"))

    with contextlib.ExitStack() as stack:
        first = Stack(prepare_first, hosts[0].enter, NGINX_EXTRA=public)
        stack.callback(first.stop)
        second = Stack(prepare_second, hosts[1].enter, NGINX_EXTRA=extra / "peer.conf",
            COSTER_PUBLIC_URL=f"https://127.0.0.1:{first.https_port}")
        stack.callback(second.stop)
        edit(second, "coster-http.conf", lambda text: re.sub(r'# ("10\.0\.0\.2 8444" +service;)', r"\1", text))
        yield first, second


def edit(shop, name, change):
    """A file of a host's nginx, which looks at it anew; old workers may be there yet."""
    path = shop.state / "nginx" / name
    before, after = path.read_text(), change(path.read_text())
    assert after != before
    path.write_text(after)
    reload(shop)


def reload(shop):
    log = shop.state / "log/nginx.log"
    pid = int((shop.run / "nginx.pid").read_text())
    children = lambda: set(open(f"/proc/{pid}/task/{pid}/children").read().split())
    old = children()
    os.kill(pid, signal.SIGHUP)
    eventually(lambda: len(children()) == 2 and not children() & old)
    assert "[emerg]" not in log.read_text()


@pytest.fixture(params=["tls", "fastcgi"])
def way(request, shops, hosts):
    """How the first host asks the second; its own stats are as they were afterwards."""
    first, second = shops
    name = "locations/stats.conf" if request.param == "tls" else "coster-http.conf"
    path = first.state / "nginx" / name
    shipped = path.read_text()
    with contextlib.ExitStack() as stack:
        if request.param == "tls":
            proxied = "\n".join(readme_lines("location .*coster_second")) + "\n"
            edit(first, name, lambda _: proxied.replace("/etc/nginx/coster", f"{first.state}/nginx"))
            # what coster-proxy.conf has for the files of the host
            assert f"{first.state}/keys/peer.crt" in (first.state / "nginx/coster-proxy.conf").read_text()
        else:
            instances = [TcpInstance(hosts[1], second, port, first.https_port) for port in (9001, 9002)]
            for instance in instances:
                stack.callback(instance.stop)
            servers = "\n".join(readme_lines(r"server 10\.0\.0\.2:900\d"))
            edit(first, name, lambda text: re.sub(r"(upstream coster_stats \{).*?(keepalive)",
                rf"\1\n{servers}\n\2", text, flags=re.S))
            request.node.instances = instances
        yield request.param
        path.write_text(shipped)
        reload(first)


class TcpInstance:
    """coster-stats as the README's drop-in starts it; again when it ends."""

    def __init__(self, host, shop, port, issuer):
        self.host, self.shop, self.port, self.issuer = host, shop, port, issuer
        self.start()

    def start(self):
        state = self.shop.state
        log = state / f"log/tcp-{self.port}.log"
        starts = log.read_text().count("event=serving") if log.exists() else 0
        self.process = subprocess.Popen([*self.host.enter, "env", f"COSTER_DB={state}/data/stats/stats.db",
            f"COSTER_KEY_FILE={state}/keys/coster.key", f"COSTER_JWKS_FILE={state}/keys/jwks.json",
            f"COSTER_PUBLIC_URL=https://127.0.0.1:{self.issuer}",
            "spawn-fcgi", "-n", "-a", SECOND, "-p", str(self.port), "-b", "1024", "--",
            str(BUILD / "coster-stats")], stderr=log.open("ab"))
        eventually(lambda: log.read_text().count("event=serving") > starts)

    def end(self, number):
        self.process.send_signal(number)
        self.process.wait(20)

    def stop(self):
        self.end(signal.SIGTERM)


def test_who_asks_stays_who_it_is(hosts, shops, way):
    first, second = shops
    internal, network = f"http://127.0.0.1:{first.http_port}", f"http://{FIRST}:{PORT}"
    claims = ["--json", '{"action": "claimed", "user_id": 7}']
    status, body = hosts[0].ask(f"{internal}/log")
    assert status == 200, body
    assert hosts[0].ask(f"{internal}/log", *claims)[0] == 201
    for spoof in ([], ["-H", "X-Forwarded-For: 127.0.0.1"], ["-H", "COSTER_NETWORK: internal"],
            ["-H", "X-Real-IP: 127.0.0.1", "-H", "Forwarded: for=127.0.0.1"]):
        assert hosts[1].ask(f"{network}/log", *spoof)[0] == 401
        status, body = hosts[1].ask(f"{network}/log", *claims, *spoof)
        assert status == 422 and "#/user_id" in body
    assert hosts[1].ask(f"{network}/log", "--json", '{"action": "anybody"}')[0] == 201
    as_service = Shop(first, internal=True)
    as_service.post("/log", {"action": "of-service", "user_id": 8}, expect=201)
    assert as_service.get("/log?action=of-service", expect=200).json["items"][-1]["user_id"] == 8
    # a bearer is known there, too
    admin = first.admin_token
    assert hosts[1].ask(f"{network}/log", "-H", f"Authorization: Bearer {admin}")[0] == 200
    assert hosts[1].ask(f"{network}/log", "-H", "Authorization: Bearer nonsense")[0] == 401


@pytest.mark.parametrize("way", ["fastcgi"], indirect=True)
def test_an_instance_there_is_watched_here(hosts, shops, way):
    first, _ = shops
    line, = readme_lines("location .*coster_what")
    before = (first.state / "nginx/locations/operate.conf").read_text()
    edit(first, "locations/operate.conf",
        lambda text: line.replace("/etc/nginx/coster", f"{first.state}/nginx") + "\n" + text)
    for what in ("health", "metrics"):
        for path, status in (("stats/1", 200), ("stats/2", 200), ("user/1", 200), ("stats/3", 503)):
            assert hosts[0].ask(f"http://127.0.0.1:{first.http_port}/_{what}/{path}")[0] == status
            assert hosts[1].ask(f"http://{FIRST}:{PORT}/_{what}/{path}")[0] != 200
    edit(first, "locations/operate.conf", lambda _: before)


def test_what_the_services_send_gets_there(hosts, shops, way):
    first, second = shops
    before = number(second, "stats", "SELECT count(*) FROM entry WHERE action = 'user.registered'")
    had = number(first, "stats", "SELECT count(*) FROM entry")
    status, body = hosts[1].ask(f"http://{FIRST}:{PORT}/user/", "--json", json.dumps(
        {"email": f"{way}@shop.example", "password": "seven blue apples"}), "-H",
        f"X-Request-Id: traced-{way}")
    assert status == 201, body
    eventually(lambda: number(second, "stats", "SELECT count(*) FROM entry"
        " WHERE action = 'user.registered'") == before + 1)
    assert rows(second, "stats", "SELECT user_id FROM entry WHERE action = 'user.registered'"
        " ORDER BY id DESC LIMIT 1") == [(json.loads(body)["id"],)]
    assert number(first, "stats", "SELECT count(*) FROM entry") == had
    hosts[1].ask(f"http://{FIRST}:{PORT}/log", "--json", '{"action": "traced"}', "-H",
        f"X-Request-Id: traced-{way}")
    logs = [p for p in (second.state / "log").iterdir() if p.name.startswith(("stats", "tcp"))]
    eventually(lambda: any(f"request=traced-{way}" in p.read_text() for p in logs))


class Loggers(Clients):
    """Clients on the second host's network that log numbers."""

    def __init__(self, host):
        super().__init__([i * 10**6 for i in range(3)])
        self.host = host

    def write(self, n):
        while not self.over.is_set():
            # curl takes many at once, over one connection
            batch = range(n, n := n + 50)
            arguments = [word for i in batch for word in ("--json", json.dumps(
                {"action": "counted", "data": {"n": i}}), "-w", "%{http_code}\n", "-o", "/dev/null",
                f"http://{FIRST}:{PORT}/log", "--next", "-sS")][:-2]
            output = self.host.run("curl", "-q", "-sS", *arguments)
            for i, status in zip(batch, output.split(), strict=True):
                (self.acknowledged if status == "201" else self.failed).append(
                    i if status == "201" else status)


def test_an_instance_there_may_end(request, hosts, shops, way):
    """By SIGTERM and SIGKILL: no request fails, none is done twice."""
    first, second = shops

    def change_one(n, sig):
        """The next one is not before this one serves again."""
        if way == "fastcgi":
            request.node.instances[n - 1].end(sig)
            request.node.instances[n - 1].start()
        else:
            starts = lambda: sum("event=serving" in line for line in second.log("stats"))
            before = starts()
            second.kill("stats", n, sig)
            eventually(lambda: starts() > before)

    action = "SELECT json_extract(data, '$.n') FROM entry WHERE action = 'counted'"
    known = {n for n, in rows(second, "stats", action)}
    with Loggers(hosts[1]) as writers:
        for sig in (signal.SIGTERM, signal.SIGKILL) * 3:
            for n in (1, 2):
                change_one(n, sig)
    assert not writers.failed and len(writers.acknowledged) >= 150
    found = [n for n, in rows(second, "stats", action)][len(known):]
    assert sorted(found) == sorted(writers.acknowledged)


def test_nobody_without_a_certificate_gets_in(hosts, shops, certificates):
    first, second = shops
    good, other = (["--cert", folder / "peer.crt", "--key", folder / "peer.key"]
        for folder in certificates)
    for port in (8443, 8444):
        there = [f"https://coster-peer:{port}/log", "--cacert", certificates[0] / "peers.crt",
            "--resolve", f"coster-peer:{port}:{SECOND}"]
        assert hosts[0].ask(*there)[0] == 400
        assert hosts[0].ask(*there, *other)[0] == 400
        status, body = hosts[0].ask(*there, *good)
        # its address is not in the internal network; what comes by the second port is a service
        assert status == (200 if port == 8444 else 401), body


@pytest.mark.parametrize("way", ["tls"], indirect=True)
def test_the_other_end_is_checked_and_may_be_away(hosts, shops, certificates, way):
    first, second = shops
    url = f"http://{FIRST}:{PORT}"

    def is_away():
        status, body = hosts[1].ask(f"{url}/log", "--json", '{"action": "away"}')
        return status == 503 and json.loads(body)["title"] == "Service Unavailable"

    with swapped(second, certificates[1]):
        eventually(is_away)
        assert hosts[1].ask(f"{url}/products/")[0] == 200
    assert "upstream SSL certificate verify error" in (first.state / "log/nginx.log").read_text()
    eventually(lambda: hosts[1].ask(f"{url}/log", "--json", '{"action": "back"}')[0] == 201)


@contextlib.contextmanager
def swapped(shop, folder):
    """A host shows another authority's certificate meanwhile."""
    good = {n: (shop.state / "keys" / n).read_bytes() for n in ("peer.crt", "peer.key")}
    for name in good:
        (shop.state / "keys" / name).write_bytes((folder / name).read_bytes())
    reload(shop)
    yield
    for name, content in good.items():
        (shop.state / "keys" / name).write_bytes(content)
    reload(shop)
