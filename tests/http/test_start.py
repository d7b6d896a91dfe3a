"""Each program by itself: its commands, and what it says when it cannot start."""

import json
import os
import pty
import signal
import socket
import sqlite3
import subprocess
import termios
import time

import pytest

from stack import BUILD, SERVICES, eventually, is_listening

USAGE, DATAERR, NOINPUT, SOFTWARE, OSFILE, IOERR, CONFIG = 64, 65, 66, 70, 72, 74, 78
each_service = pytest.mark.parametrize("program", SERVICES, indirect=True)


class Program:
    def __init__(self, service, folder):
        self.name, self.folder = f"coster-{service}", folder
        self.db = folder / f"{service}.db"
        self.settings = {
            "COSTER_DB": self.db,
            "COSTER_KEY_FILE": folder / "coster.key",
            "COSTER_JWKS_FILE": folder / "jwks.json",
            "COSTER_SIGNING_KEY_FILE": folder / "signing.jwk",
            "COSTER_INTERNAL_SOCKET": folder / "internal.sock",
            "COSTER_MAIL_URL": f"maildir:{folder}/mail",
        }

    @property
    def environment(self):
        return {"PATH": os.environ["PATH"], **{k: str(v) for k, v in self.settings.items()}}

    def run(self, *arguments, stdin=subprocess.DEVNULL, **more):
        return subprocess.run([BUILD / self.name, *arguments], env=self.environment, timeout=20,
            capture_output=True, text=True, umask=0o022,    # as a shell has it
            **({} if "input" in more else {"stdin": stdin}), **more)

    def check(self, *arguments, expect=0, **more):
        """It ends with a status, and if that is a fault, with one line that says so."""
        done = self.run(*arguments, **more)
        assert done.returncode == expect, done
        if expect != 0:
            assert len(done.stderr.splitlines()) == 1 and done.stderr.endswith("\n"), done
            assert done.stdout == "", done
        return done


def read_until(fd, mark):
    text = b""
    while mark not in text:
        text += os.read(fd, 100)
    return text


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    (folder / "coster.key").write_text("k" * 64 + "\n")
    subprocess.run([BUILD / "coster-user", "keygen", folder], check=True,
        env={"PATH": os.environ["PATH"]}, capture_output=True, timeout=20)
    return folder


@pytest.fixture
def program(request, keys, tmp_path):
    for key in keys.iterdir():
        (tmp_path / key.name).write_bytes(key.read_bytes())
    (tmp_path / "mail").mkdir()
    return Program(request.param, tmp_path)


@each_service
def test_help_version_and_check(program):
    text = program.check("--help").stdout
    for word in (program.name, "--check", "--version", "backup FILE", *list(program.settings)[:3]):
        assert word in text
    assert program.check("--version").stdout.startswith(f"{program.name} ")
    assert program.check("--check").stdout == f"{program.name}: ready to start\n"
    assert program.check("--check").stderr == ""


@each_service
def test_commands_explain_themselves(program):
    for words, usage in (("backup", "backup FILE"), ("doctor", "doctor [copy]"),
            ("doctor copy", "doctor copy")):
        text = program.check(*words.split(), "--help").stdout
        assert text.startswith(f"usage: {program.name} {usage}\n\n")
    said = program.check("doctor", "nonsense", expect=USAGE).stderr
    assert said == f"usage: {program.name} doctor [copy]\n"
    routes = program.check("routes").stdout.splitlines()
    who = {"anyone", "self", "user", "admin", "service", "internal"}
    assert routes and all(who & set(line.split()[2:]) for line in routes), routes
    assert json.loads(program.check("contract").stdout)


@each_service
def test_help_needs_nothing(program):
    program.settings = {"COSTER_WORKERS": "nonsense"}
    program.check("--help")
    program.check("--version")


@each_service
@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], ["backup"], ["--check", "x"],
    ["backup", "a", "b"]])
def test_unknown_commands(program, arguments):
    program.check(*arguments, expect=USAGE)


@each_service
@pytest.mark.parametrize("name, value", [("COSTER_WORKERS", "0"), ("COSTER_WORKERS", "four"),
    ("COSTER_WORKERS", "65"), ("COSTER_QUEUE", "-1"), ("COSTER_LOG_LEVEL", "loud"),
    ("COSTER_PUBLIC_URL", "shop.example"), ("COSTER_PUBLIC_URL", "https://a b")])
def test_bad_settings(program, name, value):
    program.settings[name] = value
    assert name in program.check("--check", expect=CONFIG).stderr


@pytest.mark.parametrize("program, name, value", [
    ("user", "COSTER_VERIFY_URL", "foo"),
    ("user", "COSTER_RESET_URL", "www.shop.example/reset"),
    ("email", "COSTER_MAIL_URL", "gopher://x"),
    ("email", "COSTER_MAIL_URL", "nonsense"),
    ("payment", "COSTER_GATEWAYS", "manual,gold"),
    ("payment", "COSTER_GATEWAYS", "manual,"),
], indirect=["program"])
def test_bad_settings_of_one_service(program, name, value):
    program.settings[name] = value
    said = program.check("--check", expect=CONFIG).stderr
    assert name in said and 'event="bad setting" ' in said


@each_service
@pytest.mark.parametrize("setting, content", [("COSTER_KEY_FILE", None), ("COSTER_KEY_FILE", ""),
    ("COSTER_KEY_FILE", "short\n"), ("COSTER_JWKS_FILE", None), ("COSTER_JWKS_FILE", "{}"),
    ("COSTER_JWKS_FILE", "nonsense")])
def test_missing_and_bad_keys(program, setting, content):
    path = program.settings[setting]
    path.unlink()
    if content is not None:
        path.write_text(content)
    assert str(path) in program.check("--check", expect=NOINPUT).stderr


@pytest.mark.parametrize("program", ["user"], indirect=True)
@pytest.mark.parametrize("content", [None, "", "nonsense", "{}"])
def test_a_bad_signing_key(program, content):
    path = program.settings["COSTER_SIGNING_KEY_FILE"]
    path.unlink()
    if content is not None:
        path.write_text(content)
    assert str(path) in program.check("--check", expect=NOINPUT).stderr


@each_service
def test_a_database_in_a_missing_folder(program):
    program.settings["COSTER_DB"] = program.folder / "missing" / "x.db"
    assert "missing/x.db" in program.check("--check", expect=IOERR).stderr


@each_service
def test_a_command_makes_no_database(program):
    """An empty one would be sound, and hide that the path is wrong."""
    commands = [["doctor"], ["doctor", "copy"], ["backup", program.folder / "copy"]]
    if program.name == "coster-user":
        commands += [["outbox", "list"], ["list"], ["disable", "ann@shop.example"]]
    for arguments in commands:
        said = program.check(*arguments, expect=IOERR).stderr
        assert f'"there is no database" path={program.db}' in said and "COSTER_DB" in said
    assert not program.db.exists() and not (program.folder / "copy").exists()


@each_service
def test_a_file_that_is_no_database(program):
    program.db.write_bytes(b"nonsense, " * 1000)
    assert str(program.db) in program.check("--check", expect=IOERR).stderr


@each_service
@pytest.mark.parametrize("component", ["shared", None])
def test_a_database_that_is_newer(program, component):
    program.check("--check")
    with sqlite3.connect(program.db) as db:
        steps = db.execute("SELECT component, max(step) FROM migration GROUP BY component")
        assert {name for name, _ in steps} == {"shared", program.name.removeprefix("coster-")}
        db.execute("INSERT INTO migration VALUES (?, 999, 0)",
            [component or program.name.removeprefix("coster-")])
    for arguments in (["--check"], ["backup", program.folder / "copy"]):
        assert "999" in program.check(*arguments, expect=DATAERR).stderr


@each_service
def test_a_database_of_another_service(program):
    other = Program("cart" if program.name != "coster-cart" else "user", program.folder)
    other.check("--check")
    program.settings["COSTER_DB"] = other.db
    for arguments in (["--check"], ["doctor"]):
        said = program.check(*arguments, expect=DATAERR).stderr
        assert str(other.db) in said and other.name.removeprefix("coster-") in said
    with sqlite3.connect(other.db) as db:
        components = {name for name, in db.execute("SELECT component FROM migration")}
    assert components == {"shared", other.name.removeprefix("coster-")}


@each_service
def test_a_schema_that_lacks_what_a_statement_needs(program):
    program.check("--check")
    with sqlite3.connect(program.db) as db:
        db.execute("ALTER TABLE outbox DROP COLUMN last_error")
    assert "last_error" in program.check("--check", expect=SOFTWARE).stderr


@each_service
def test_standard_input_that_is_no_listening_socket(program):
    assert "spawn-fcgi" in program.check(expect=OSFILE).stderr
    with socket.socket(socket.AF_UNIX) as s:
        program.check(stdin=s, expect=OSFILE)


@pytest.mark.parametrize("program", ["stats"], indirect=True)
def test_a_start_without_its_database_is_tried_at_most_once_a_second(program):
    program.settings["COSTER_DB"] = program.folder / "missing/x.db"
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(program.folder / "x.sock"))
        s.listen()
        begin = time.monotonic()
        program.check(stdin=s, expect=IOERR)
    assert time.monotonic() - begin >= 1    # 60 starts in a minute are the unit's last


@each_service
def test_it_serves_until_it_is_told_to_stop(program):
    path, log = program.folder / "x.sock", program.folder / "log"
    with socket.socket(socket.AF_UNIX) as s, log.open("w") as out:
        s.bind(str(path))
        s.listen()
        process = subprocess.Popen([BUILD / program.name], stdin=s, stderr=out,
            env=program.environment)
    try:
        eventually(lambda: "event=serving" in log.read_text())
        assert is_listening(path)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
    assert not path.exists() and "event=stopped" in log.read_text()


@each_service
def test_a_backup_is_a_whole_copy(program):
    program.check("--check")
    copy = program.folder / "copy.db"
    program.check("backup", copy)
    assert program.db.stat().st_mode & 0o777 == copy.stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(copy) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        tables = {name for name, in db.execute("SELECT name FROM sqlite_schema")}
    assert {"migration", "outbox", "idempotency"} < tables
    program.check("backup", copy, expect=IOERR)    # it overwrites nothing
    program.check("backup", program.folder / "missing/copy", expect=IOERR)
    program.settings["COSTER_DB"] = copy
    program.check("--check")


@pytest.mark.parametrize("program", ["user"], indirect=True)
def test_an_administrator_is_made_once(program):
    done = program.check("add-admin", "root@shop.example", input="nine green pears\n")
    assert "pears" not in done.stdout + done.stderr
    with sqlite3.connect(program.db) as db:
        assert db.execute("SELECT count(*) FROM account WHERE role = 'admin'").fetchone() == (1,)
    assert program.run("add-admin", "nonsense", input="nine green pears\n").returncode != 0
    assert program.run("add-admin", "b@shop.example", input="\n").returncode != 0


@pytest.mark.parametrize("program", ["user"], indirect=True)
@pytest.mark.parametrize("end", [None, signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_terminal_asks_for_the_password_and_does_not_show_it(program, end):
    ours, terminal = pty.openpty()
    echo = lambda: termios.tcgetattr(terminal)[3] & termios.ECHO
    process = subprocess.Popen([BUILD / program.name, "add-admin", "root@shop.example"],
        stdin=terminal, stdout=subprocess.PIPE, stderr=terminal, env=program.environment)
    try:
        assert read_until(ours, b": ") == b"password: " and not echo()
        if end:
            process.send_signal(end)
        else:
            os.write(ours, b"nine green pears\n")
        assert process.wait(10) == (-end if end else 0)
        said = process.stdout.read()
        assert echo()
        os.write(terminal, b"|")
        assert b"pears" not in read_until(ours, b"|")
        assert (b"user 1 made" in said) == (end is None)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        os.close(ours)
        os.close(terminal)


@pytest.mark.parametrize("program", ["user"], indirect=True)
def test_keys_are_not_overwritten(program):
    path = program.settings["COSTER_SIGNING_KEY_FILE"]
    before = path.read_bytes()
    assert program.run("keygen", program.folder).returncode != 0
    assert path.read_bytes() == before and path.stat().st_mode & 0o777
    made = program.folder / "made"
    made.mkdir()
    program.check("keygen", made)
    assert (made / "signing.jwk").stat().st_mode & 0o777 == 0o600
    assert (made / "jwks.json").read_text().count('"d"') == 0
