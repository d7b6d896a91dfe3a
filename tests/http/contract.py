"""nginx/html/openapi.json, and whether a reply is one that it describes."""

import copy
import json
import posixpath
import re
import urllib.parse

import jsonschema

from stack import ROOT

FILE = ROOT / "nginx/html/openapi.json"
METHODS = ("get", "post", "put", "patch", "delete")

# What nginx answers by itself to whatever is asked: the response "default".
NGINX = {400, 413, 414, 501, 504, 505}

PLACES = {"uid": "[0-9]+", "id": "[0-9]+", "word": "[A-Za-z0-9_-]{1,128}", "service": "[a-z]+",
    "instance": "[0-9]+"}


def close(schema):
    """Members that are not described are faults in a test; clients ignore them."""
    if isinstance(schema, dict):
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
        for part in schema.values():
            close(part)
    elif isinstance(schema, list):
        for part in schema:
            close(part)


class Contract:
    def __init__(self):
        self.doc = json.loads(FILE.read_text())
        self.closed = copy.deepcopy(self.doc)
        close(self.closed["components"]["schemas"])
        close(self.closed["paths"])
        self.resolver = jsonschema.RefResolver("", self.closed)
        # What is literal goes before what is not.
        self.paths = sorted(((re.compile(re.sub("{(.+?)}", lambda m: PLACES[m[1]], path)), path)
            for path in self.doc["paths"]), key=lambda p: p[1].replace("{", "~"))
        self.seen = set()      # (method, path, status) of replies
        self.shapes = set()    # and the shapes of their bodies

    def resolve(self, node, doc=None):
        while "$ref" in node:
            node = self.resolver.resolve(node["$ref"])[1] if doc is None else \
                at(doc, node["$ref"])
        return node

    def operations(self):
        for path, item in self.closed["paths"].items():
            for method in METHODS:
                if method in item:
                    yield method.upper(), path, item[method]

    def methods(self, path):
        """As Allow has them."""
        have = {m.upper() for m in METHODS if m in self.doc["paths"][path]}
        return have | {"OPTIONS"} | ({"HEAD"} if "GET" in have else set())

    def parameters(self, path, operation):
        own = self.closed["paths"][path].get("parameters", []) + operation.get("parameters", [])
        return [self.resolve(p) for p in own]

    def validate(self, value, schema):
        jsonschema.Draft202012Validator(schema, resolver=self.resolver).validate(value)

    def find_path(self, target):
        """As nginx reads it: decoded, without what dots and double slashes add."""
        path = urllib.parse.unquote(target.partition("?")[0])
        path = posixpath.normpath("/" + path.lstrip("/"))
        return next((name for pattern, name in self.paths if pattern.fullmatch(path)), None)

    # ---- a reply ----

    def check(self, method, target, request_body, reply):
        path = self.find_path(target)
        if path is None or reply.status in (405, 501):
            self.check_refusal(method, path, reply)
            return
        if method == "OPTIONS":
            assert reply.status == 204, reply
            self.check_allow(path, reply)
            return
        operation = self.closed["paths"][path].get("get" if method == "HEAD" else method.lower())
        assert operation, f"{method} {path} is not described: {reply}"
        where = f"{method} {path}: {reply}"
        described = operation["responses"].get(str(reply.status))
        if described is None:
            assert reply.status in NGINX, f"this status is not described: {where}"
            described = operation["responses"]["default"]
        elif method != "HEAD":
            self.seen.add((method, path, reply.status))
        try:
            self.check_reply(self.resolve(described), method, reply)
            if reply.status < 300:
                self.check_request(path, operation, target, request_body)
        except jsonschema.ValidationError as e:
            raise AssertionError(f"{e.message} (of {list(e.path)}) in {where}") from None
        self.shapes.add((method, path, reply.status, shape(reply.json)))

    def check_refusal(self, method, path, reply):
        """Of what the file does not describe."""
        if path is None:
            assert reply.status in (404, 405) or reply.status in NGINX, reply
        else:
            assert method not in self.methods(path), reply
            self.check_allow(path, reply)

    def check_allow(self, path, reply):
        assert set(reply.headers["Allow"].split(", ")) == self.methods(path), reply

    def check_reply(self, described, method, reply):
        for name, header in described.get("headers", {}).items():
            header = self.resolve(header)
            value = reply.headers[name]
            assert value is not None or not header.get("required"), f"{name} is missing: {reply}"
            if value is not None:
                number = header["schema"].get("type") == "integer"
                self.validate(int(value) if number else value, header["schema"])
        content = described.get("content", {})
        if method == "HEAD" or not content:
            assert not reply.body, reply
            return
        assert reply.type in content, f"this type is not described: {reply}"
        self.validate(reply.body.decode() if reply.json is None else reply.json,
            content[reply.type]["schema"])

    def check_request(self, path, operation, target, body):
        """What was accepted is as the file wants it."""
        for parameter in self.parameters(path, operation):
            if parameter["in"] != "query":
                continue
            query = urllib.parse.parse_qs(target.partition("?")[2], keep_blank_values=True)
            for text in query.get(parameter["name"], []):
                self.validate(typed(text, parameter["schema"]), parameter["schema"])
        if "requestBody" in operation and body:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            self.validate(json.loads(body), schema)


def typed(text, schema):
    kind = schema.get("type")
    if kind == "integer":
        return int(text)
    return {"true": True, "false": False}[text] if kind == "boolean" else text


def at(doc, ref):
    for step in ref.removeprefix("#/").split("/"):
        doc = doc[step.replace("~1", "/").replace("~0", "~")]
    return doc


def shape(value):
    """What is left without the values: the members, in order; of a list, its first item's.
    A problem's type stays."""
    if isinstance(value, dict):
        return tuple((k, v if k == "type" else None if k in ("attributes", "data") else shape(v))
            for k, v in value.items())
    return ("list", shape(value[0])) if isinstance(value, list) and value else None


contract = Contract()
