"""coster on a host, from its installation to its purge, in the order of this file:
each test goes on from where the one before left the host."""

import contextlib
import mailbox
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import time
import urllib.parse

import pytest

from host import (DEBS, PLAIN_PORT, SERVICES, UNITS, ask, deb, eventually, pid, sh, show, try_sh)
from load import Load

ADMIN = "admin@shop.test", "the longest of passwords"
ANN = "ann@shop.test", "seven blue apples"
REQUESTS = 40000    # that no restart may lose one of

# What was there before coster, and what an administrator then writes.
OLD_SITE = """
server {
    listen 80 default_server;
    server_name old.test;
    location / { return 200 "the old site"; }
}
"""
SITE = f"""
server {{
    listen 127.0.0.1:{PLAIN_PORT};
    include /etc/nginx/coster/coster-errors.conf;
    include /etc/nginx/coster/locations/*.conf;
}}
"""


@pytest.fixture(scope="session")
def who():
    """The customer and what is in the shop; the tests fill it in."""
    return {}


@pytest.fixture(scope="session", autouse=True)
def mails():
    from aiosmtpd.controller import Controller
    from aiosmtpd.handlers import Mailbox
    relay = Controller(Mailbox("/root/mail"), hostname="127.0.0.1", port=25)
    relay.start()
    yield lambda: [m for m in mailbox.Maildir("/root/mail") if m["To"]]
    relay.stop()


def old_site_answers():
    return ask("GET", "/", host="old.test", port=80).text == "the old site"


def shop_answers():
    try:
        return ask("GET", "/products/").status == 200
    except OSError:    # nginx is still reading its new configuration
        return False


def sign_in(email, password):
    session = ask("POST", "/session/", {"email": email, "password": password}, expect=201).json
    return session["user_id"], session["token"]


def sign_in_again(who):
    """A load is longer than a token is good."""
    _, who["admin"] = sign_in(*ADMIN)
    who["user"], who["token"] = sign_in(*ANN)


def running():
    return set(sh("systemctl list-units --plain --no-legend --state=active 'coster-*@*'"
        " | sed 's/\\.service .*//'").split())


# ---- install and start -------------------------------------------------------

def test_install_changes_nothing_that_is_there():
    pathlib.Path("/etc/nginx/sites-enabled/default").unlink()
    pathlib.Path("/etc/nginx/conf.d/old.conf").write_text(OLD_SITE)
    sh("systemctl restart nginx")
    assert old_site_answers()
    before = sh("systemctl list-unit-files --state=enabled --no-legend")
    workers = sh("pgrep -f 'nginx: worker'")
    output = sh(f"apt-get install -y {' '.join(str(deb(s)) for s in ('common', *SERVICES))}")
    assert old_site_answers()
    assert sh("pgrep -f 'nginx: worker'") == workers
    assert sh("systemctl list-unit-files --state=enabled --no-legend") == before
    assert not running()
    assert "systemctl enable --now coster.target coster-stats.target" in output
    assert "error" not in output


def test_install_makes_accounts_folders_and_keys():
    def stat(path):
        return sh(f"stat -c '%U %G %a' {path}").strip()

    assert stat("/etc/coster/coster.key") == "root root 600"
    assert stat("/etc/coster/nginx-key.conf") == "root root 600"
    assert stat("/etc/coster/signing.jwk") == "coster-user coster-user 400"
    assert stat("/etc/coster/jwks.json") == "root root 644"
    assert stat("/run/coster/internal") == "root coster 750"
    for s in SERVICES:
        assert stat(f"/var/lib/coster/{s}") == f"coster-{s} coster-{s} 700"
        assert sh(f"id -nG coster-{s}").split() == [f"coster-{s}", "coster"]
        assert f"coster-{s}" in sh("id -nG www-data").split()
    assert "coster" not in sh("id -nG www-data").split()


@pytest.mark.parametrize("name", ["coster.key", "nginx-key.conf", "jwks.json"])
def test_a_lost_key_comes_back(name):
    """From the file that still has it."""
    path = pathlib.Path("/etc/coster", name)
    mode, text = path.stat().st_mode, path.read_text()
    path.unlink()
    sh("coster-setup")
    assert (path.stat().st_mode, path.read_text().strip()) == (mode, text.strip())


def test_start():
    sh("""
    cd /etc/nginx
    ln -s ../coster/coster-http.conf ../coster/coster-internal.conf conf.d/
    sed 's/shop\\.example;/shop.test;/' coster/coster-site.conf >sites-enabled/shop
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \\
        -subj /CN=shop.test -addext subjectAltName=DNS:shop.test,IP:127.0.0.1 \\
        -keyout /etc/ssl/private/shop.example.key -out /etc/ssl/certs/shop.example.pem
    sed -i 's/127\\.0\\.0\\.0\\/8  internal;/&\\n    127.0.0.9\\/32  external;/' coster/coster-http.conf
    : >coster/coster-limits.conf    # the load of the tests is from one address
    echo COSTER_PUBLIC_URL=https://shop.test >>/etc/coster/coster.env
    echo COSTER_GATEWAYS=manual,sandbox >>/etc/coster/payment.env
    """)
    pathlib.Path("/etc/nginx/sites-enabled/plain").write_text(SITE)
    sh("systemctl enable --now coster.target " + " ".join(f"coster-{s}.target" for s in SERVICES))
    eventually(lambda: running() == set(UNITS))
    sh("nginx -t && systemctl reload nginx")
    eventually(shop_answers)
    assert old_site_answers()
    eventually(lambda: "This address is mine" in ask("GET", "/verify").text)
    for port, status in ((443, 404), (80, 308)):    # and says not which nginx it is
        eventually(lambda: ask("GET", "/nothing", port=port).status == status)    # old workers
        assert ask("GET", "/nothing", port=port, expect=status).headers["Server"] == "nginx"
    for unit in UNITS:
        assert "Status: \"serving" in sh(f"systemctl status {unit}")


def test_purchase(who, mails):
    sh("coster-user add-admin " + ADMIN[0], input=ADMIN[1] + "\n")
    _, who["admin"] = sign_in(*ADMIN)
    ask("POST", "/user/", {"email": ANN[0], "password": ANN[1], "name": "Ann"}, expect=201)
    who["user"], who["token"] = sign_in(*ANN)
    who["product"] = ask("POST", "/product/", {"sku": "tea", "name": "Tea", "price": 450,
        "currency": "EUR", "stock": 1000}, who["admin"], 201).json["id"]
    cart = f"/user/{who['user']}/cart/"
    ask("POST", cart, {"product_id": who["product"], "quantity": 2}, who["token"], 201)
    invoice = ask("POST", cart + "checkout", {}, who["token"], 201).json
    paid = ask("POST", f"/invoices/{invoice['id']}/pay", {"method": "sandbox", "token": "tok_ok"},
        who["token"], 200).json
    assert (paid["status"], paid["total"]) == ("paid", 900)
    eventually(lambda: len([m for m in mails() if ANN[0] in m["To"]]) == 3)    # welcome, confirm, receipt
    eventually(lambda: ask("GET", f"/product/{who['product']}").json["stock"] == 998)
    who["item"] = ask("POST", cart, {"product_id": who["product"]}, who["token"], 201).json["id"]


def test_audit_events_are_fields_in_the_journal(who):
    match = f"SYSLOG_IDENTIFIER=coster-user COSTER_EVENT='signed in' COSTER_USER={who['user']}"
    lines = eventually(lambda: sh(f"journalctl -o cat -p notice {match}").splitlines())
    assert all("level=audit" in line and ANN[1] not in line for line in lines)


# ---- what each is kept from --------------------------------------------------

@pytest.mark.parametrize("service", SERVICES)
def test_exposure(service):
    table = sh(f"systemd-analyze security --no-pager coster-{service}@1")
    figure = float(re.search(r"Overall exposure level for .*: (\d+\.\d)", table)[1])
    assert figure <= (1.0 if service == "email" else 0.3), table


@pytest.mark.parametrize("user, command", [
    ("www-data", "ls /run/coster/internal"),
    ("www-data", "curl -sS --unix-socket /run/coster/internal/nginx.sock http://x/log"),
    ("www-data", "ls /var/lib/coster/user"),
    ("www-data", "cat /etc/coster/nginx-key.conf"),
    ("www-data", "cat /etc/coster/signing.jwk"),
    ("nobody", "ls /run/coster/user-1"),
    ("nobody", "curl -sS --unix-socket /run/coster/internal/nginx.sock http://x/log"),
    ("coster-cart", "cat /var/lib/coster/user/user.db"),
    ("coster-cart", "ls /run/coster/user-1"),
    ("coster-cart", "cat /etc/coster/signing.jwk"),
    ("coster-cart", "cat /etc/coster/coster.key"),
    ("coster-user", "cat /etc/coster/coster.key"),
])
def test_accounts_are_kept_apart(user, command):
    done = try_sh(command, user)
    assert done.returncode != 0 and re.search("denied|refused|[Cc]ouldn't connect|Failed to connect",
        done.stdout), done.stdout


@pytest.mark.parametrize("unit", UNITS)
def test_an_instances_socket_is_nginxs_alone(unit):
    """By the socket, and by the folder that it is in."""
    service, n = unit[len("coster-"):].split("@")
    folder = f"/run/coster/{service}-{n}"
    for path, mode in ((folder, 750), (folder + "/sock", 660)):
        assert sh(f"stat -c '%U %G %a' {path}").strip() == f"coster-{service} coster-{service} {mode}"
    connect = f"curl -sS --max-time 5 --unix-socket {folder}/sock http://x/"
    for account in ("nobody", "coster-email" if service == "user" else "coster-user"):
        assert "connect to server" in try_sh(connect, account).stdout, account
    assert "connect to server" not in try_sh(connect, "www-data").stdout


def test_a_service_may_call_by_the_internal_listener():
    assert '"keys"' in sh("curl -sS --unix-socket /run/coster/internal/nginx.sock"
        " http://x/.well-known/jwks.json", "coster-cart")


PROBE = r"""
import ctypes, os, socket
def tried(what, f):
    try: f()
    except OSError as e: print(what, "refused")
    else: print(what, "allowed")
tried("own state", lambda: open("/var/lib/coster/%(s)s/probe", "w").close())
tried("other state", lambda: os.listdir("/var/lib/coster/%(other)s"))
tried("etc", lambda: open("/etc/coster/probe", "w"))
tried("tmp of others", lambda: os.stat("/tmp/of-the-host"))
tried("home", lambda: os.listdir("/root"))
tried("shadow", lambda: open("/etc/shadow"))
tried("exec", lambda: os.posix_spawn("/usr/bin/id", ["id"], {}))
tried("processes", lambda: os.stat("/proc/1/stat"))
tried("packets", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
tried("tcp", lambda: socket.create_connection(("127.0.0.1", 25), 2))
tried("chown", lambda: os.chown("/var/lib/coster/%(s)s/probe", os.getuid(), os.getgid()))
tried("mount namespace", lambda: os.unshare(0) if hasattr(os, "unshare") else
    ctypes.CDLL(None, use_errno=True).unshare(0x20000) and (_ for _ in ()).throw(OSError()))
"""


@pytest.mark.parametrize("service, tcp", [("cart", "refused"), ("email", "allowed")])
def test_a_probe_inside(service, tcp):
    """The unit as it is, with a script in the place of the program."""
    pathlib.Path("/tmp/of-the-host").touch()
    pathlib.Path("/usr/local/lib/probe.py").write_text(PROBE % {"s": service,
        "other": "product"})
    folder = pathlib.Path(f"/run/systemd/system/coster-{service}@9.service.d")
    folder.mkdir(parents=True)
    (folder / "probe.conf").write_text("""[Service]
Type=oneshot
Restart=no
WatchdogSec=0
ExecPaths=/usr/bin/python3 /usr/bin/python3.11
ExecStart=
ExecStart=/usr/bin/python3 /usr/local/lib/probe.py
StandardOutput=file:/run/probe.out
""")
    sh(f"systemctl daemon-reload; systemctl start coster-{service}@9")
    found = dict(line.rsplit(" ", 1) for line in
        pathlib.Path("/run/probe.out").read_text().splitlines())
    assert found.pop("own state") == "allowed"
    assert found.pop("tcp") == tcp
    assert set(found.values()) == {"refused"}, found
    sh(f"rm -r {folder} /run/probe.out /var/lib/coster/{service}/probe; systemctl daemon-reload")


# ---- health and metrics ------------------------------------------------------

@pytest.mark.parametrize("unit", UNITS)
def test_health(unit):
    service, n = re.fullmatch(r"coster-(.*)@(.)", unit).groups()
    health = ask("GET", f"/_health/{service}/{n}", expect=200).json
    assert (health["status"], health["service"], health["instance"]) == ("ok", service, n)
    assert ask("GET", f"/_health/{service}/{n}", source="127.0.0.9").status == 401
    assert ask("GET", f"/_metrics/{service}/{n}", source="127.0.0.9").status == 401
    assert ask("GET", f"/_health/{service}/7").status == 503


@pytest.mark.parametrize("service", SERVICES)
def test_metrics(service):
    page = ask("GET", f"/_metrics/{service}/1", expect=200).text
    sh("promtool check metrics", input=page)
    assert f'coster_build_info{{service="{service}"' in page
    before = counted(service)
    ask("GET", f"/_health/{service}/1", expect=200)
    assert counted(service) == before + 1
    openmetrics = ask("GET", f"/_metrics/{service}/1", accept="application/openmetrics-text")
    assert openmetrics.headers["Content-Type"].startswith("application/openmetrics-text")
    assert openmetrics.text.endswith("# EOF\n")
    assert "# TYPE coster_requests counter\n" in openmetrics.text


def test_prometheus_with_what_is_shipped():
    """The example as it is, and the alerts on what it scrapes."""
    folder = "/usr/share/coster/prometheus"
    assert "SUCCESS: 10 rules found" in sh(f"promtool check rules {folder}/coster-alerts.yml")
    assert "is valid" in sh(f"promtool check config {folder}/prometheus.yml")
    sh("ln -s /etc/nginx/coster/coster-watch.conf /etc/nginx/conf.d/; nginx -t && systemctl reload nginx")
    sh(f"cp -r {folder} /run/prometheus; cd /run/prometheus;"
        " sed -i '1i global: {scrape_interval: 1s, evaluation_interval: 1s}' prometheus.yml")

    def query(expression):
        reply = ask("GET", "/api/v1/query?" + urllib.parse.urlencode({"query": expression}), port=9090)
        return [(r["metric"], r["value"][1]) for r in reply.json["data"]["result"]]

    def is_up(count):
        with contextlib.suppress(OSError, ValueError):    # not yet
            return query('count(up{job="coster"} == 1)') == [({}, str(count))]

    server = subprocess.Popen(["prometheus", "--config.file=/run/prometheus/prometheus.yml",
        "--storage.tsdb.path=/run/prometheus/data", "--web.listen-address=127.0.0.1:9090"],
        stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: is_up(len(UNITS)), 30)
        assert {m["service"] for m, _ in query("coster_build_info")} == set(SERVICES)
        known = ask("GET", "/api/v1/label/__name__/values", port=9090).json["data"]
        alerts = pathlib.Path(f"{folder}/coster-alerts.yml").read_text()
        used = set(re.findall(r"\b(?:coster|process)_[a-z_]+", alerts))
        assert len(used) > 8 and used <= set(known), used - set(known)
        rules = ask("GET", "/api/v1/rules", port=9090).json["data"]["groups"][0]["rules"]
        eventually(lambda: all(r["health"] == "ok" for r in
            ask("GET", "/api/v1/rules", port=9090).json["data"]["groups"][0]["rules"]))
        assert len(rules) == 10 and query("ALERTS") == []
        sh("systemctl stop coster-email@1 coster-email@2")
        eventually(lambda: [(m["alertname"], m["service"]) for m, _ in
            query('ALERTS{alertname="CosterServiceDown"}')] == [("CosterServiceDown", "email")], 20)
    finally:
        server.terminate()
        server.wait(20)
        sh("systemctl start coster-email@1 coster-email@2")


def counted(service):
    """How often its first instance told its health."""
    page = ask("GET", f"/_metrics/{service}/1", expect=200).text
    return int(re.search(r'coster_requests_total\{method="GET",route="/_health",status="200"\} (\d+)',
        page)[1])


# ---- no request is lost ------------------------------------------------------

def entries():
    """The numbers of the load's entries, as they are in the database."""
    return [int(n) for n in sh("sqlite3 -readonly /var/lib/coster/stats/stats.db"
        " \"SELECT json_extract(data, '$.n') FROM entry WHERE action = 'load'\"").split()]


def kill(unit, number=signal.SIGKILL):
    old = pid(unit)
    os.kill(old, number)
    eventually(lambda: show(unit, "SubState") == "running" and pid(unit) not in (0, old), 15)


def repack(service, version):
    """The package again, as a later version."""
    sh(f"""
    rm -rf /root/repack; dpkg-deb -R {deb(service)} /root/repack
    sed -i 's/^Version: .*/Version: {version}/' /root/repack/DEBIAN/control
    dpkg-deb -b /root/repack /root/coster-{service}_{version}.deb
    """)
    return f"/root/coster-{service}_{version}.deb"


def test_restart_upgrade_and_kill_under_load(who):
    sign_in_again(who)
    package, users = repack("product", "9.0"), sh("coster-user list")
    before = {unit: pid(unit) for unit in UNITS}
    with Load(PLAIN_PORT, who) as load:
        sh("coster-restart")
        sh(f"dpkg -i --force-confold {package}")
        while load.so_far < REQUESTS * 3 // 4:
            for unit in UNITS:
                kill(unit)
        while load.so_far < REQUESTS:
            time.sleep(0.1)
    assert all(pid(unit) != before[unit] for unit in UNITS)
    assert load.failed == [], (len(load.failed), load.failed[:20])
    assert sorted(entries()) == sorted(load.acknowledged)
    assert sh("dpkg-query -Wf '${Version}' coster-product") == "9.0"
    assert sh("coster-user list") == users


def test_the_load_would_show_a_lost_request(who):
    sh("sed -i 's/max_fails=0/max_fails=1/' /etc/nginx/coster/coster-http.conf; systemctl reload nginx")
    with Load(PLAIN_PORT, who) as load:
        sh("coster-restart product stats")
    assert load.failed
    sh("sed -i 's/max_fails=1/max_fails=0/' /etc/nginx/coster/coster-http.conf; systemctl reload nginx")


# ---- what comes back by itself -----------------------------------------------

def is_well(service, n):
    try:
        return ask("GET", f"/_health/{service}/{n}", port=PLAIN_PORT).status == 200
    except OSError:
        return False


def comes_back(units, number, seconds):
    """Each is another process, and answers, within so many seconds."""
    old = {unit: pid(unit) for unit in units}
    began = time.monotonic()
    for process in old.values():
        os.kill(process, number)
    for unit in units:
        eventually(lambda: pid(unit) not in (0, old[unit]) and is_well(*unit[7:].split("@")), seconds)
    return time.monotonic() - began


def tell(what, times):
    print(f"{what}: usually {statistics.median(times):.2f} s, at most {max(times):.2f} s,"
        f" {len(times)} times")


def test_crash_to_ready():
    times = [comes_back([UNITS[i % len(UNITS)]], signal.SIGKILL, 5) for i in range(20)]
    tell("crash to ready", times)
    # The usual one: a busy machine may now and then take longer.
    assert statistics.median(times) < 0.5 and max(times) < 4, times


def test_abort_to_ready():
    """Who can write to a socket can have libfcgi abort: SECURITY CONSIDERATIONS in
    coster(7)."""
    old = pid("coster-stats@1")
    with socket.socket(socket.AF_UNIX) as s:
        s.connect("/run/coster/stats-1/sock")
        s.sendall(bytes.fromhex("0101000100080000 0001000000000000 0104000100080000 fffffffe fffffffe"))
        assert s.recv(1) == b""
    eventually(lambda: pid("coster-stats@1") not in (0, old) and is_well("stats", 1), 5)


def test_hang_to_ready():
    """With a shorter watchdog than that of the units, which is ten seconds."""
    sh("""
    for s in user email product cart payment stats; do
        mkdir -p /run/systemd/system/coster-$s@.service.d
        printf '[Service]\\nWatchdogSec=2s\\n' >/run/systemd/system/coster-$s@.service.d/short.conf
    done
    systemctl daemon-reload; coster-restart
    """)
    pairs = [(UNITS[i], UNITS[(i + 3) % len(UNITS)]) for i in range(10)]
    times = [comes_back(pair, signal.SIGSTOP, 10) for pair in pairs]
    tell("hang to ready, two at a time, with a watchdog of 2 s", times)
    assert 0.5 < min(times) and statistics.median(times) < 2.5 and max(times) < 8, times
    sh("rm -r /run/systemd/system/coster-*@.service.d; systemctl daemon-reload; coster-restart")


def test_no_more_than_so_many_restarts():
    sh("echo COSTER_WORKERS=none >>/etc/coster/cart.env")
    assert try_sh("coster-restart cart").returncode != 0
    assert running() == set(UNITS) - {"coster-cart@1"}    # the other serves on
    assert "expected a whole number" in sh("journalctl -u coster-cart@1 -n 20")
    sh("sed -i /COSTER_WORKERS/d /etc/coster/cart.env; coster-restart cart")
    assert running() == set(UNITS)


def test_a_database_that_cannot_be_opened_is_waited_for():
    """Sixty starts in a minute would be the last."""
    database = pathlib.Path("/var/lib/coster/stats/stats.db")
    database.chmod(0)
    os.kill(pid("coster-stats@1"), signal.SIGKILL)
    time.sleep(12)
    assert running() == set(UNITS) - {"coster-stats@1"}
    assert show("coster-stats@1", "ActiveState") == "activating"
    database.chmod(0o600)
    eventually(lambda: running() == set(UNITS))


def test_nginx_starts_after_it_was_killed():
    sh("systemctl kill -s KILL nginx; sleep 0.2")
    assert pathlib.Path("/run/coster/internal/nginx.sock").is_socket()
    assert "nginx.sock failed" in try_sh("nginx").stdout    # the unit knows better
    sh("systemctl start nginx")
    eventually(shop_answers)
    assert old_site_answers()


# ---- backup and restore ------------------------------------------------------

def test_backup_and_restore(who):
    folder = pathlib.Path("/var/backups/coster")
    sh(f"touch -d '20 days ago' {folder}/user/user-20200101T000000Z.db")
    users = sh("coster-user list")
    sh("systemctl start coster-backup.service")
    copies = {s: list((folder / s).glob("*")) for s in SERVICES}
    assert all(len(found) == 1 for found in copies.values()), copies
    assert sh(f"stat -c '%U %a' {copies['user'][0]}").strip() == "coster-user 600"
    # From where the accounts of the services may not go.
    assert sh("cd /root; coster-backup --rehearse").count("can be restored") == len(SERVICES)
    assert {s: list((folder / s).iterdir()) for s in SERVICES} == copies
    late = {"email": "late@shop.test", "password": ANN[1] + " too"}
    lost = ask("POST", "/user/", late, expect=201).json["id"]
    before = {unit: pid(unit) for unit in UNITS}
    for s in SERVICES:    # root's, in a folder that the account may not enter
        output = sh(f"coster-{s} restore {copies[s][0]}")
        assert sh(f"stat -c '%U %a' {re.search('kept: +([^,]+)', output)[1]}").strip() == f"coster-{s} 600"
    assert {unit: pid(unit) for unit in UNITS} == before
    assert sh("coster-user list") == users
    sign_in_again(who)
    assert ask("POST", "/user/", late, expect=201).json["id"] > lost
    for s in SERVICES:
        assert "unknown" not in sh(f"coster-{s} doctor")


def test_a_copy_that_cannot_be_restored_is_told(who):
    copy, = pathlib.Path("/var/backups/coster/cart").glob("*.db")
    whole = copy.read_bytes()
    copy.write_bytes(whole[:-8192])
    done = try_sh("coster-backup --rehearse")
    assert done.returncode == 1 and "cart: rehearse failed" in done.stdout
    assert done.stdout.count("can be restored") == len(SERVICES) - 1
    copy.write_bytes(whole)
    assert try_sh("coster-backup --nonsense").returncode == 64


def test_a_database_elsewhere_is_copied():
    """Where the settings say; and one that is not found is told."""
    env = pathlib.Path("/etc/coster/stats.env")
    old, moved = pathlib.Path("/var/lib/coster/stats/stats.db"), "/var/lib/coster/stats/moved.db"
    text = env.read_text()
    sh("systemctl stop 'coster-stats@*'")
    old.rename(moved)
    env.write_text(text + f'COSTER_DB="{moved}"\n')
    sh("systemctl start coster-stats@1 coster-stats@2; systemctl start coster-backup.service")
    copy = sorted(pathlib.Path("/var/backups/coster/stats").glob("stats-*.db"))[-1]
    assert int(sh(f"sqlite3 {copy} 'SELECT count(*) FROM entry'")) > 1000
    assert not old.exists()
    env.write_text(text)    # and nobody restarts it
    done = try_sh("coster-backup")
    assert done.returncode == 1 and "name its database as COSTER_DB" in done.stdout
    sh("systemctl stop 'coster-stats@*'")
    pathlib.Path(moved).rename(old)
    sh("systemctl start coster-stats@1 coster-stats@2")
    eventually(lambda: running() == set(UNITS))


@pytest.mark.parametrize("command", ["coster-backup", "coster-restart"])
def test_only_root_may(command):
    done = try_sh(command, "nobody")
    assert (done.returncode, done.stdout) == (77, f"{command}: run it as root\n")


def test_backup_timer():
    sh("systemctl enable --now coster-backup.timer")
    assert "coster-backup.service" in sh("systemctl list-timers --no-pager")


# ---- removal and purge -------------------------------------------------------

def test_removal_leaves_the_rest_and_the_data():
    sh("apt-get remove -y coster-stats")
    assert running() == {u for u in UNITS if "stats" not in u}
    assert ask("GET", "/products/").status == 200
    assert ask("POST", "/log", {"action": "x"}).status == 503
    sh("nginx -t")
    sh("apt-get purge -y coster-stats")
    assert pathlib.Path("/var/lib/coster/stats/stats.db").exists()
    assert "coster-stats is not installed" in sh("cd /root; coster-backup")
    sh("nginx -t && systemctl reload nginx")
    assert ask("GET", "/products/").status == 200
    sh(f"apt-get install -y {deb('stats')}; systemctl start coster-stats.target")
    eventually(lambda: running() == set(UNITS))
    assert len(entries()) > 1000


def test_purge_removes_data_when_told_to():
    for s in SERVICES:
        sh("debconf-set-selections", input=f"coster-{s} coster-{s}/purge_data boolean true\n")
    told = sh("apt-get purge -y 'coster-*' 2>&1").partition("take the includes of")[2]
    for site in ("shop", "plain"):
        assert f"/etc/nginx/sites-enabled/{site}\n" in told, told
        sh(f"rm /etc/nginx/sites-enabled/{site}")
    sh("nginx -t && systemctl restart nginx")
    assert old_site_answers()
    assert not running()
    left = sh("find /etc /usr /var/lib /var/backups -xdev -path '*coster*'"
        " -not -path '/var/lib/systemd/*' -not -path '*coster-test*'")
    assert left == "", left


# ---- other ways to use it ----------------------------------------------------

def test_one_service_alone_in_a_site_that_is_there():
    sh(f"""
    apt-get install -y {deb('common')} {deb('stats')}
    ln -s /etc/nginx/coster/coster-http.conf /etc/nginx/coster/coster-internal.conf /etc/nginx/conf.d/
    sed -i 's|location / |include /etc/nginx/coster/coster-errors.conf;\\n'\
'include /etc/nginx/coster/locations/stats.conf;\\n&|' /etc/nginx/conf.d/old.conf
    systemctl enable --now coster.target coster-stats.target
    nginx -t && systemctl reload nginx
    """)
    old = dict(host="old.test", port=80)
    # Workers of before the reload may take a connection yet, and know no /log.
    eventually(lambda: ask("POST", "/log", {"action": "x"}, **old).status == 201)
    eventually(lambda: '"items"' in ask("GET", "/log", **old).text)
    eventually(lambda: ask("GET", "/log", token="nobody.knows.it", **old).status == 401)
    assert ask("GET", "/products/", **old).text == "the old site"
    assert not pathlib.Path("/etc/coster/signing.jwk").exists()


def test_an_instance_that_listens_on_tcp():
    """As on a second host; the README has this drop-in."""
    folder = pathlib.Path("/etc/systemd/system/coster-stats@3.service.d")
    folder.mkdir()
    (folder / "tcp.conf").write_text("""[Service]
ExecStart=
ExecStart=/usr/bin/spawn-fcgi -n -a 127.0.0.1 -p 9001 -b 1024 -- /usr/sbin/coster-stats
PrivateNetwork=no
RestrictAddressFamilies=AF_INET
IPAddressAllow=127.0.0.1
""")
    sh("""
    systemctl daemon-reload
    systemctl start coster-stats@3
    systemctl stop coster-stats@1 coster-stats@2
    sed -i -e '/stats-2/d' -e 's|unix:/run/coster/stats-1/sock|127.0.0.1:9001|' /etc/nginx/coster/coster-http.conf
    nginx -t && systemctl reload nginx
    """)
    eventually(lambda: ask("POST", "/log", {"action": "y"}, host="old.test", port=80).status == 201)
