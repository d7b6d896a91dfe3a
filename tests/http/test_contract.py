"""The description of the interface, nginx/html/openapi.json, against the services' tables, and
against what they answer. Every reply to the other tests is held against it too (shop.py)."""

import json
import re
import subprocess

import pytest

from contract import contract
from stack import BUILD, SERVICES

PROSE = {"description", "default", "title"}
PLACES = {
    "uid": {"type": "integer", "minimum": 1, "maximum": 2**53 - 1},
    "id": {"type": "integer", "minimum": 1, "maximum": 2**53 - 1},
    "word": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,128}$"},
}


def read_tables():
    """The routes of all services, by method and path as the file has them."""
    found = {}
    for service in SERVICES:
        text = subprocess.run([BUILD / f"coster-{service}", "contract"], check=True, env={},
            capture_output=True, text=True).stdout
        for route in json.loads(text):
            path = route["path"]
            if path.startswith("/_"):    # of each instance; see nginx/locations/operate.conf
                path += "/{service}/{instance}"
            found[route["method"], path] = route
    return found


ROUTES = read_tables()
OPERATIONS = {(method, path): operation for method, path, operation in contract.operations()}


def plain(schema):
    """A schema without its prose, and with what it refers to in place."""
    if isinstance(schema, list):
        return [plain(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        schema = {**contract.resolve(schema), **{k: v for k, v in schema.items() if k != "$ref"}}
    out = {k: plain(v) if k != "properties" else {n: plain(p) for n, p in v.items()}
        for k, v in schema.items() if k not in PROSE}
    if out.get("type") == "object":
        if "properties" not in out:
            return {"type": "object"}    # free for the tables, whatever more is said of it
        out.setdefault("required", [])
    return out


def in_(place, method, path):
    return {p["name"]: p for p in contract.parameters(path, OPERATIONS[method, path])
        if p["in"] == place}


def implied(route):
    """The statuses that follow from a route's flags; the others are the endpoint's own."""
    flags, post = set(route["flags"]), route["method"] == "POST"
    wanted = {401, 422, 429, 503}
    if not (flags & {"anyone"} or (route["method"] == "GET" and "service" in flags
            and flags & {"self", "user"})):
        wanted.add(403)
    if "{" in route["path"] or route["path"].startswith("/_"):
        wanted.add(404)
    if "body" in route:
        wanted |= {400, 413, 415}
    if post and "slow" in flags and "secret" not in flags:
        wanted.add(409)    # the first request with this Idempotency-Key still runs
    return wanted


def test_every_route_is_described_and_nothing_else():
    assert set(OPERATIONS) == set(ROUTES)


@pytest.mark.parametrize("method, path", ROUTES)
def test_a_route_is_described_as_its_tables_are(method, path):
    route, operation = ROUTES[method, path], OPERATIONS[method, path]
    flags = set(route["flags"])
    who = {"anyone", "self", "user", "admin", "service", "internal"} & flags
    assert set(re.findall("`(.+?)`", operation["description"].partition(". ")[0])) == who

    users = [{"bearer": []}, {"cookie": []} if method == "GET" else {"cookie": [], "csrf": []}]
    if "anyone" in who:
        assert operation["security"] in ([], [{}, *users])
    else:
        assert operation["security"] == (users if who & {"self", "user", "admin"} else [])
    assert ("servers" in operation) == (who == {"service"})    # nobody else gets there

    places = in_("path", method, path)
    assert list(places) == re.findall("{(.+?)}", path)
    for name in set(places) & set(PLACES):
        assert plain(places[name]["schema"]) == PLACES[name] and places[name]["required"]

    query = in_("query", method, path)
    assert {name: plain(p["schema"]) for name, p in query.items()} == route["query"]["properties"]
    assert [n for n, p in query.items() if p.get("required")] == route["query"]["required"]

    assert ("requestBody" in operation) == ("body" in route)
    if "body" in route:
        body = operation["requestBody"]
        types = {"application/json"} | ({"application/merge-patch+json"} if method == "PATCH" else set())
        assert set(body["content"]) == types
        want = {"oneOf": [route["body"], route["batch"]]} if "batch" in route else route["body"]
        assert all(plain(c["schema"]) == want for c in body["content"].values())
        assert body["required"] == ("maybe-body" not in flags)


@pytest.mark.parametrize("method, path", ROUTES)
def test_what_an_operation_answers_fits_what_it_takes(method, path):
    route, operation = ROUTES[method, path], OPERATIONS[method, path]
    statuses = {int(s) for s in operation["responses"] if s != "default"}
    assert statuses >= implied(route) and "default" in operation["responses"]
    assert statuses & {400, 413, 415} == implied(route) & {400, 413, 415}
    headers = set(in_("header", method, path))
    assert ("Idempotency-Key" in headers) == (method == "POST" and "secret" not in route["flags"])
    assert ("If-Match" in headers) == (412 in statuses)
    assert ("If-None-Match" in headers) == (304 in statuses)
    if method == "GET":
        good = contract.resolve(operation["responses"]["200"])
        assert ("ETag" in good["headers"]) == (304 in statuses)


def media():
    """Every body in the file: where it is, and what it is."""
    for name, response in contract.closed["components"]["responses"].items():
        for kind, content in response.get("content", {}).items():
            yield f"{name} {kind}", content
    for (method, path), operation in OPERATIONS.items():
        both = {"request": operation.get("requestBody", {}), **operation["responses"]}
        for name, part in both.items():
            if "$ref" not in part:
                for kind, content in part.get("content", {}).items():
                    yield f"{method} {path} {name} {kind}", content


@pytest.mark.parametrize("where, content", media(), ids=lambda v: v if isinstance(v, str) else "")
def test_examples_fit_their_schemas(where, content):
    for example in content.get("examples", {}).values():
        contract.validate(contract.resolve(example)["value"], content["schema"])


def test_everything_in_the_file_is_used():
    text = json.dumps(contract.doc)
    for kind, parts in contract.doc["components"].items():
        if kind != "securitySchemes":
            for name in parts:
                assert f'"#/components/{kind}/{name}"' in text, (kind, name)
