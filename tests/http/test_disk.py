"""Disks that are full or fail, and memory that runs out, under load of every kind:
what is acknowledged is there, what cannot be done is said to be so, reads go on,
and all is well as soon as the fault is gone. Power cuts on a real file system.
FAULTS=full makes it long."""

import contextlib
import fcntl
import mmap
import os
import pathlib
import signal
import struct
import subprocess
import time

import pytest

from load import Crowd
from shop import Shop
from stack import BUILD, SERVICES, Stack, eventually, is_listening
from trouble import ASAN, is_stopped, parent, rows

LONG_RUN = os.environ.get("FAULTS") == "full"
CUTS = 60 if LONG_RUN else 2
SECONDS = 5 if LONG_RUN else 1
WRITE, FULL, SYNC, MEMORY = 1, 2, 4, 8    # see tests/storage/shim.c
MAILS = {"COSTER_MAIL_PER_HOUR": 100000, "COSTER_MAIL_PER_RECIPIENT": 100000}
ROOT = os.geteuid() == 0

if ASAN:
    pytest.skip("the address sanitizer has a memory of its own", allow_module_level=True)


class Faults:
    """What fails in the programs: all of them share a file with it."""

    def __init__(self, path):
        self.path = path
        path.write_bytes(bytes(16))
        with path.open("r+b") as f:
            self.memory = mmap.mmap(f.fileno(), 16)

    def set(self, what, every):
        self.memory[:16] = struct.pack("<4I", 0, every, 0, 0)
        self.memory[:4] = struct.pack("<I", what)

    def clear(self):
        """How many calls failed."""
        self.memory[:4] = bytes(4)
        return struct.unpack("<4I", self.memory[:16])[3]


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    return Faults(tmp_path_factory.mktemp("faults") / "control")


@pytest.fixture(scope="module")
def stack(faults):
    stack = Stack(LD_PRELOAD=BUILD / "tests/storage/shim.so", COSTER_FAULTS=faults.path, **MAILS)
    yield stack
    stack.stop()


class Writers:
    """A small write to each service that needs no other."""

    def __init__(self, stack, crowd):
        self.shop, self.service = Shop(stack), Shop(stack, internal=True)
        user, product = crowd.users[0], crowd.products[0]
        self.writes = {
            "stats": lambda: self.shop.post("/log", {"action": "test.back"}),
            "product": lambda: self.shop.patch(f"/product/{product}", {"name": "Tea"},
                token=self.shop.admin),
            "payment": lambda: self.service.post("/invoices", {"user_id": user.id,
                "currency": "EUR", "lines": [{"product_id": product, "description": "Tea",
                "quantity": 1, "price": 1}]}),
            "email": lambda: self.service.delete("/send_email/?to=nobody@elsewhere.example"),
            "user": lambda: self.shop.patch(f"/user/{user.id}", {"name": "Ann"},
                token=user.token),
            "cart": lambda: self.service.delete("/user/999999/cart/"),
        }

    def seconds_until_good(self):
        start = time.monotonic()
        for write in self.writes.values():
            eventually(lambda: write().status < 300)
        return time.monotonic() - start

    def statuses(self):
        return {service: write().status for service, write in self.writes.items()}


SHORT = [("failing writes", WRITE, 5), ("a full disk", FULL, 1), ("failing fsync", SYNC, 1)]
LONG = [("failing writes", WRITE, n) for n in (1, 2, 3, 10, 50)] \
    + [("a full disk", FULL, n) for n in (2, 4, 20)] \
    + [("failing fsync", SYNC, n) for n in (2, 3, 10)] \
    + [("failing writes and fsync", WRITE | SYNC, n) for n in (7, 30)] \
    + [("failing malloc", MEMORY, n) for n in (300, 1000, 3000, 10000, 50000)]
CASES = SHORT + LONG * LONG_RUN


@pytest.mark.parametrize("name, what, every", CASES, ids=[f"{n}, every {e}" for n, _, e in CASES])
def test_what_fails_is_not_acknowledged(stack, faults, name, what, every):
    crowd = Crowd(stack, strict=False, reads=what != MEMORY)
    writers = Writers(stack, crowd)
    with crowd:
        faults.set(what, every)
        try:
            time.sleep(SECONDS)
            if every == 1:    # nothing can be written: everybody says so
                assert set(writers.statuses().values()) <= {503, 507}
        finally:
            failed = faults.clear()
        if what == MEMORY:    # whoever had none left has ended, and is started again
            eventually(lambda: all(pathlib.Path(f"/proc/{pid}").exists()
                for service in SERVICES for pid in stack.pids(service)))
        back = writers.seconds_until_good()
        crowd.go_on()
    crowd.check()
    print(f"\n{name}, every call {every}: {failed} failed in {SECONDS} s; back after"
        f" {back * 1000:.0f} ms; {crowd.report()}")
    assert failed > 0 and back < (3 if what == MEMORY else 1)


# ---- on real file systems, which only root can make ----

def mounted_state(folder):
    """What puts the databases of a stack there."""
    def prepare(state):
        (state / "data").symlink_to(folder)
    return prepare


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(not ROOT, reason="only root can mount a file system to break")
def test_a_file_system_that_is_full(small_disk):
    stack = Stack(prepare=mounted_state(small_disk), **MAILS)
    try:
        crowd = Crowd(stack, strict=False)
        writers = Writers(stack, crowd)
        with crowd:
            filler = small_disk / "filler"
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as f:
                while True:
                    f.write(bytes(4096))
            # There is a little room in each file: until that is used up, writes go on.
            eventually(lambda: set(writers.statuses().values()) <= {503, 507}, 60)
            for _ in range(20):
                crowd.look(crowd.users[0])
            filler.unlink()
            back = writers.seconds_until_good()
            crowd.go_on()
        crowd.check()
        print(f"\na full file system: back after {back * 1000:.0f} ms; {crowd.report()}")
        assert crowd.counts[503] + crowd.counts[507] > 0 and back < 1
    finally:
        stack.stop()


class Loop:
    """ext4 on a loop device, whose power can be cut."""

    FS_IOC_SHUTDOWN, NOLOGFLUSH = 0x8004587D, 2

    def __init__(self, folder):
        self.image, self.folder = folder / "image", folder / "disk"
        self.folder.mkdir()
        with self.image.open("wb") as f:
            f.truncate(192 * 1024 * 1024)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-J", "size=8", self.image], check=True)
        self.mount()

    def mount(self):
        subprocess.run(["mount", "-o", "loop", self.image, self.folder], check=True)

    def unmount(self):
        """As soon as the last thread of the dead has let go of it."""
        eventually(lambda: subprocess.run(["umount", self.folder],
            stderr=subprocess.DEVNULL).returncode == 0)

    def cut(self):
        """What is not on the device now never gets there."""
        fd = os.open(self.folder, os.O_RDONLY)
        fcntl.ioctl(fd, self.FS_IOC_SHUTDOWN, struct.pack("I", self.NOLOGFLUSH))
        os.close(fd)


@pytest.fixture
def loop(tmp_path):
    try:
        loop = Loop(tmp_path)
    except (OSError, subprocess.CalledProcessError) as why:
        pytest.skip(f"no loop device: {why}")
    yield loop
    loop.unmount()


def cut_power(stack, loop, crowd):
    """Of the disk under all instances at once, while they work. What was acknowledged
    before."""
    for path in [stack.run / f"{s}-{n}.sock" for s in SERVICES for n in (1, 2)]:
        eventually(lambda: is_listening(path))    # back after the last cut
    pids = [pid for service in SERVICES for pid in stack.pids(service)]
    supervisors = [parent(pid) for pid in pids]
    for pid in supervisors + pids:    # stopped first, else an acknowledgement slips past
        os.kill(pid, signal.SIGSTOP)
    eventually(lambda: all(is_stopped(pid) for pid in pids))
    told = crowd.so_far()
    loop.cut()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    try:
        loop.unmount()
        loop.mount()
    finally:
        for pid in supervisors:
            os.kill(pid, signal.SIGCONT)
    return told


@pytest.mark.skipif(not ROOT, reason="only root can mount a file system to break")
def test_power_cuts_of_the_running_shop(loop):
    stack = Stack(prepare=mounted_state(loop.folder), **MAILS)
    try:
        crowd = Crowd(stack, strict=False, reads=False)
        writers = Writers(stack, crowd)
        with crowd:
            slowest = 0
            for n in range(CUTS):
                crowd.go_on()
                told = cut_power(stack, loop, crowd)
                slowest = max(slowest, writers.seconds_until_good())
                crowd.check_rows(told)
                for service in SERVICES:
                    assert rows(stack, service, "PRAGMA integrity_check") == [("ok",)]
                if (n + 1) % 10 == 0:
                    print(f"\n{n + 1} power cuts", end="", flush=True)
        crowd.check()
        print(f"\n{CUTS} power cuts of ext4; all six services write again after at most"
            f" {slowest * 1000:.0f} ms; {crowd.report()}")
    finally:
        stack.stop()
