"""A client of the shop that holds every reply against what the interface
promises of all of them."""

import gzip
import http.client
import itertools
import json
import re
import secrets
import socket
import ssl
import threading
import time
from typing import NamedTuple

from contract import contract

TIMEOUT = 20
MIB = 1024 * 1024
CORS_ORIGIN = "https://admin.shop.example"    # a site whose pages may use the shop
JSON = ("application/json", "application/problem+json")
TYPES = ("application/json", "application/x-ndjson", "text/csv")
SECRETS = {"password", "current_password", "token", "refresh_token", "text", "html"}


class User(NamedTuple):
    id: int
    email: str
    password: str
    token: str
    refresh_token: str


class Reply:
    def __init__(self, response, method):
        self.method, self.status, self.headers = method, response.status, response.headers
        self.body = response.read()
        if self.headers["Content-Encoding"] == "gzip":
            self.body = gzip.decompress(self.body)
        self.type = (self.headers["Content-Type"] or "").split(";")[0]
        self.json = json.loads(self.body) if self.body and self.type in JSON else None

    def __repr__(self):
        return f"{self.status} {self.headers.items()} {self.body[:2000]!r}"

    @property
    def pointers(self):
        """What the problem finds fault with."""
        return {e["pointer"] for e in self.json.get("errors", [])}

    def check(self):
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", self.headers["X-Request-Id"] or ""), self
        assert self.status not in (500, 502), self
        if self.status in (204, 304):
            assert self.body == b"", self
        elif self.status >= 400:
            self.check_problem()
        elif self.method == "HEAD":
            assert self.body == b"" and self.type in TYPES, self
        if self.status == 201 and not {"count", "token"} & set(self.json):
            assert self.headers["Location"], self
        self.check_caching()
        if self.status == 401:
            assert self.headers["WWW-Authenticate"].startswith("Bearer"), self
        if self.status == 405:
            assert self.headers["Allow"], self
        if self.status in (429, 503):
            assert int(self.headers["Retry-After"]) >= 1, self

    def check_caching(self):
        assert "Origin" in self.headers["Vary"].split(", "), self
        if "public" in self.headers["Cache-Control"]:
            assert self.status in (200, 304) and not self.headers["Set-Cookie"], self
        else:
            assert "no-store" in self.headers["Cache-Control"], self

    def check_problem(self):
        assert self.type == "application/problem+json", self
        if self.method == "HEAD":
            assert self.body == b"", self
            return
        for member in ("type", "title", "detail"):
            assert self.json[member] and isinstance(self.json[member], str), self
        assert re.fullmatch("about:blank|urn:coster:problem:[a-z-]+", self.json["type"]), self
        assert self.json["status"] == self.status, self
        assert self.json["instance"] == f"urn:coster:request:{self.headers['X-Request-Id']}", self
        for error in self.json.get("errors", []):
            assert error["pointer"][0] in "#?" and error["detail"], self


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("coster", timeout=TIMEOUT)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Shop:
    """internal: comes in as the services do. source: the client's own address."""

    number = itertools.count(1)

    def __init__(self, stack, internal=False, source=None):
        self.stack, self.internal = stack, internal
        self.source = (source, 0) if source else None
        self.tls = ssl.create_default_context(cafile=stack.state / "keys/tls.crt")
        self.kept = threading.local()

    @property
    def admin(self):
        return self.stack.admin_token

    def connect(self, tls):
        if self.internal:
            return UnixConnection(str(self.stack.run / "internal/nginx.sock"))
        if tls:
            return http.client.HTTPSConnection("127.0.0.1", self.stack.https_port,
                timeout=TIMEOUT, context=self.tls, source_address=self.source)
        return http.client.HTTPConnection("127.0.0.1", self.stack.http_port,
            timeout=TIMEOUT, source_address=self.source)

    def connection(self, tls):
        """This thread's, kept alive; a new one before nginx closes it as idle."""
        kept = vars(self.kept).setdefault("connections", {})
        connection, used = kept.get(tls, (None, 0))
        now = time.monotonic()
        if connection is None or now - used > 30:
            connection = self.connect(tls)
        kept[tls] = connection, now
        return connection

    def request(self, method, path, body=None, token=None, headers=None, tls=True,
            expect=None):
        """expect: the status it must have. A body of bytes is sent as it is."""
        headers = dict(headers or {})
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        if body is not None and not isinstance(body, bytes):
            self.keep_secrets(body)
            body = json.dumps(body).encode()
        connection = self.connection(tls)
        try:
            connection.request(method, path, body, headers)
            reply = Reply(connection.getresponse(), method)
        except BaseException:
            connection.close()
            raise
        self.keep_secrets(reply.json)
        reply.check()
        contract.check(method, path, body, reply)
        assert expect in (None, reply.status), f"expected {expect}: {reply}"
        return reply

    def get(self, path, **kw):
        return self.request("GET", path, **kw)

    def post(self, path, body, **kw):
        return self.request("POST", path, body, **kw)

    def put(self, path, body, **kw):
        return self.request("PUT", path, body, **kw)

    def patch(self, path, body, **kw):
        return self.request("PATCH", path, body, **kw)

    def delete(self, path, **kw):
        return self.request("DELETE", path, **kw)

    def keep_secrets(self, tree):
        """Notes what the logs must not have; short words are in them by chance."""
        if isinstance(tree, dict):
            self.stack.secrets.update(v for k, v in tree.items()
                if k in SECRETS and isinstance(v, str) and len(v) >= 16)

    # ---- what many tests need ----

    def new_email(self):
        return f"ann.{next(self.number)}.{secrets.token_hex(4)}@shop.example"

    def sign_in(self, email, password):
        session = self.post("/session/", {"email": email, "password": password}, expect=201).json
        return User(session["user_id"], email, password, session["token"],
            session["refresh_token"])

    def new_user(self, name="Ann"):
        email, password = self.new_email(), secrets.token_urlsafe(16)
        self.post("/user/", {"email": email, "password": password, "name": name}, expect=201)
        return self.sign_in(email, password)

    def new_product(self, **members):
        n = next(self.number)
        product = {"sku": f"test-{n}-{secrets.token_hex(4)}", "name": f"Tea {n}", "price": 450,
            "currency": "EUR", "stock": 1000, **members}
        return self.post("/product/", product, token=self.admin, expect=201).json

    def pages(self, path, **kw):
        """Every item of a list, following its links."""
        items = []
        while path:
            reply = self.get(path, expect=200, **kw)
            items += reply.json["items"]
            link = re.fullmatch('<(.+)>; rel="next"', reply.headers["Link"] or "")
            assert bool(link) == bool(reply.json["next_cursor"]), reply
            path = link and link[1]
        return items

    def check_methods(self, path, allowed, token=None, slash=True):
        """path has these methods, says so, and refuses all others."""
        allowed = set(allowed.split()) | {"OPTIONS"}
        if "GET" in allowed:
            allowed.add("HEAD")
        for path in (path, path + "/") if slash else (path,):
            reply = self.request("OPTIONS", path, expect=204)
            assert set(reply.headers["Allow"].split(", ")) == allowed, reply
            for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "BREW"} - allowed:
                reply = self.request(method, path, token=token, expect=405)
                assert set(reply.headers["Allow"].split(", ")) == allowed, reply
