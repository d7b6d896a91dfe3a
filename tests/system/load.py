"""Clients that read and write while services are restarted. Counts what was
answered, what was not, and which writes were acknowledged."""

import json
import multiprocessing
import random
import socket
import time

PROCESSES = 4


class Client:
    """HTTP over one kept connection, with little between it and the socket."""

    def __init__(self, port):
        self.address = "127.0.0.1", port
        self.sock = None

    def request(self, method, path, body=b"", token=None):
        if self.sock is None:
            self.sock = socket.create_connection(self.address, timeout=20)
            self.file = self.sock.makefile("rb")
        head = f"{method} {path} HTTP/1.1\r\nHost: shop.test\r\nContent-Length: {len(body)}\r\n"
        if body:
            head += "Content-Type: application/json\r\n"
        if token:
            head += f"Authorization: Bearer {token}\r\n"
        self.sock.sendall(head.encode() + b"\r\n" + body)
        status = int(self.file.readline().split()[1])
        length, close = 0, False
        while (line := self.file.readline().lower()) not in (b"\r\n", b""):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
            close |= line.startswith(b"connection: close")
        reply = self.file.read(length)
        if close:
            self.sock = None
        return status, reply


def run(number, port, who, stop, counts, results):
    """who: ids and tokens. Each write to /log has a number of its own."""
    client, rng = Client(port), random.Random(number)
    done, failed, acknowledged = 0, [], []
    user, token, admin = who["user"], who["token"], who["admin"]
    reads = [
        ("/products/?limit=5", None), (f"/product/{who['product']}", None),
        (f"/user/{user}/cart/", token), (f"/user/{user}", token),
        (f"/invoices?user_id={user}", token), ("/send_email/?limit=1", admin),
        ("/.well-known/jwks.json", None),
    ]
    while not stop.is_set():
        n = number * 10**9 + done
        kind = rng.random()
        if kind < 0.5:
            path, bearer = rng.choice(reads)
            call, good = ("GET", path, b"", bearer), 200
        elif kind < 0.9:
            body = json.dumps({"action": "load", "data": {"n": n}}).encode()
            call, good = ("POST", "/log", body), 201
        else:
            body = json.dumps({"quantity": rng.randint(1, 9)}).encode()
            call, good = ("PATCH", f"/user/{user}/cart/{who['item']}", body, token), 200
        try:
            status, reply = client.request(*call)
        except (OSError, ValueError, IndexError) as error:
            client.sock, status, reply = None, 0, repr(error).encode()
        if status != good:
            failed.append((time.time(), call[0], call[1], status, reply[:200].decode()))
        elif call[1] == "/log":
            acknowledged.append(n)
        done += 1
        counts[number] = done
    results.put((done, failed, acknowledged))


class Load:
    """Runs while the with-block does."""

    def __init__(self, port, who):
        self.stop, self.results = multiprocessing.Event(), multiprocessing.Queue()
        self.counts = multiprocessing.Array("q", PROCESSES)
        self.processes = [multiprocessing.Process(target=run, args=(i, port, who, self.stop,
            self.counts, self.results)) for i in range(PROCESSES)]

    @property
    def so_far(self):
        return sum(self.counts)

    def __enter__(self):
        for process in self.processes:
            process.start()
        return self

    def __exit__(self, *unused):
        self.stop.set()
        results = [self.results.get(timeout=60) for _ in self.processes]
        self.done = sum(done for done, _, _ in results)
        self.failed = [f for _, failed, _ in results for f in failed]
        self.acknowledged = [n for _, _, acked in results for n in acked]
        for process in self.processes:
            process.join()
