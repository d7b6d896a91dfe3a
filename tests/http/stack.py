"""The whole shop, run by tests/stack in a scratch folder on free ports."""

import email
import email.policy
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD") or ROOT / "build").resolve()
SERVICES = ("user", "email", "product", "cart", "payment", "stats")


def eventually(condition, seconds=10):
    """What condition() answers as soon as that is true; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        time.sleep(0.02)
    return result


def free_port():
    """One below those that the kernel gives to clients, of which there are many here."""
    while True:
        port = random.randrange(10000, 32768)
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


class Stack:
    root = ROOT    # where tests/stack is
    running = []

    def __init__(self, prepare=lambda state: None, enter=(), **settings):
        """prepare: what to do with the folder before anything starts in it. enter: a
        command that runs another one elsewhere."""
        self.state = pathlib.Path(tempfile.mkdtemp(prefix="coster-test."))
        prepare(self.state)
        self.run = self.state / "run"
        self.https_port, self.http_port = free_port(), free_port()
        self.secrets = set()    # what was sent or received and must be in no log
        self.marks = {}
        settings = {
            "STATE": self.state, "BUILD": BUILD, "LIMITS": "off",
            "HTTPS_PORT": self.https_port, "HTTP_PORT": self.http_port, **settings,
        }
        self.output = self.state / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*enter, self.root / "tests/stack"], stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, **{k: str(v) for k, v in settings.items()}})
        Stack.running.append(self)
        try:
            eventually(self.is_ready, 60)
        except BaseException:
            self.stop()
            raise

    def is_ready(self):
        assert self.process.poll() is None, self.output.read_text()
        return (self.state / "ready").exists()

    def stop(self):
        self.process.terminate()
        status = self.process.wait(60)
        output = self.output.read_text()
        Stack.running.remove(self)
        shutil.rmtree(self.state)
        assert "stack: killed" not in output and status == 0, output

    @property
    def admin_token(self):
        return (self.state / "admin.token").read_text().strip()

    def pid(self, service, n):
        """The process of an instance, which may have been started again just now."""
        return int(eventually((self.run / f"{service}-{n}.pid").read_text))

    def pids(self, service):
        return [self.pid(service, n) for n in (1, 2)]

    def kill(self, service, n, sig):
        """Ends an instance; answers when its successor listens."""
        old, path = self.pid(service, n), self.run / f"{service}-{n}.sock"
        os.kill(old, sig)
        eventually(lambda: self.pid(service, n) != old and is_listening(path), 3)

    def send(self, service, sig):
        for pid in self.pids(service):
            os.kill(pid, sig)

    def mails(self, to):
        """The messages in the Maildir for an address."""
        found = [parse_mail(path) for path in (self.state / "mail").glob("new/*")]
        return [m for m in found if m["To"] is not None and to in m["To"]]

    def log(self, service):
        """The lines of both instances."""
        paths = (self.state / "log").glob(f"{service}-?.log")
        return [line for path in paths for line in path.read_text().splitlines()]

    def mark_logs(self):
        self.marks = {p: p.stat().st_size for p in (self.state / "log").iterdir()}

    def logs_since_mark(self, lines=40):
        text = ""
        for path in sorted((self.state / "log").glob("[!a]*.log")):    # but access.log
            with path.open(errors="replace") as f:
                f.seek(self.marks.get(path, 0))
                if tail := f.readlines()[-lines:]:
                    text += f"==> {path.name}\n{''.join(tail)}"
        return text


def parse_mail(path):
    with open(path, "rb") as f:
        return email.message_from_binary_file(f, policy=email.policy.default)


def is_listening(path):
    with socket.socket(socket.AF_UNIX) as s:
        return s.connect_ex(str(path)) == 0


def is_open(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


class Stopped:
    """Both instances of some services hang while this lasts."""

    def __init__(self, stack, *services):
        self.stack, self.services = stack, services

    def __enter__(self):
        for service in self.services:
            self.stack.send(service, signal.SIGSTOP)

    def __exit__(self, *unused):
        for service in self.services:
            self.stack.send(service, signal.SIGCONT)
