"""The record of user actions."""

import csv
import io
import json
import socket
import uuid

import pytest

from shop import MIB, Shop

MEMBERS = {"id", "at", "user_id", "action", "data"}


@pytest.fixture(scope="module")
def ann(http):
    return http.new_user()


@pytest.fixture
def action():
    """One that no other test uses."""
    return f"test.{uuid.uuid4().hex}"


@pytest.fixture(scope="module")
def outside(stack):
    """The shop as it is seen from another address than loopback."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.connect(("192.0.2.1", 9))    # sends nothing
            address = s.getsockname()[0]
    except OSError:
        pytest.skip("this machine has no address but loopback")
    return Shop(stack, source=address)


def listed(http, action, **kw):
    return http.get(f"/log?action={action}&limit=200", expect=200, **kw).json["items"]


@pytest.mark.parametrize("slash", ["", "/"])
def test_an_action_is_recorded(http, action, slash):
    body = {"action": action, "user_id": 7, "at": "2026-01-31T13:00:00.5+01:00",
        "data": {"from": "Zürich", "n": [1, 2.5, None, True]}}
    reply = http.post(f"/log{slash}", body, expect=201)
    entry, = listed(http, action)
    assert set(entry) == MEMBERS
    assert entry == {**body, "id": reply.json["id"], "at": "2026-01-31T12:00:00.500Z"}
    http.post("/log", {"action": action}, expect=201)
    last = listed(http, action)[-1]
    assert last["user_id"] is None and last["at"] > "2026"


@pytest.mark.parametrize("body, pointer", [
    ({}, "#/action"), ({"action": ""}, "#/action"), ({"action": "a b"}, "#/action"),
    ({"action": 7}, "#/action"), ({"action": "a" * 1000}, "#/action"),
    ({"action": "a", "user_id": "7"}, "#/user_id"), ({"action": "a", "user_id": 0}, "#/user_id"),
    ({"action": "a", "data": "text"}, "#/data"), ({"action": "a", "at": "yesterday"}, "#/at"),
    ({"action": "a", "at": 7}, "#/at"), ({"action": "a", "id": 7}, "#/id"),
])
def test_faults_of_an_entry_are_named(http, body, pointer):
    assert http.post("/log", body, expect=422).pointers == {pointer}
    in_array = pointer.replace("#", "#/1")
    assert http.post("/log", [{"action": "a"}, body], expect=422).pointers == {in_array}


def test_many_are_recorded_at_once(http, action):
    entries = [{"action": action, "data": {"n": n}} for n in range(1000)]
    reply = http.post("/log", entries, expect=201).json
    assert reply["count"] == 1000 and reply["last_id"] - reply["first_id"] == 999
    items = http.pages(f"/log?action={action}&limit=200")
    assert sorted(i["data"]["n"] for i in items) == list(range(1000))
    http.post("/log", [*entries, {"action": action}], expect=422)
    http.post("/log", [], expect=422)
    assert len(http.pages(f"/log?action={action}&limit=200")) == 1000


@pytest.mark.parametrize("more, status", [(0, 201), (1, 413)])
def test_a_body_has_up_to_a_mebibyte(http, action, more, status):
    entries = [{"action": action, "data": {"pad": ""}} for _ in range(500)]
    room = (MIB - len(json.dumps(entries))) // 500
    for entry in entries:
        entry["data"]["pad"] = "x" * room
    body = json.dumps(entries).encode()
    body += b" " * (MIB + more - len(body))
    http.request("POST", "/log", body, expect=status)
    assert len(http.pages(f"/log?action={action}&limit=100")) == (500 if status == 201 else 0)


def test_a_repeated_post_is_recorded_once(http, action):
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first, again = [http.post("/log", {"action": action}, headers=key, expect=201)
        for _ in range(2)]
    assert first.json == again.json and again.headers["Idempotent-Replayed"] == "true"
    assert len(listed(http, action)) == 1


def test_a_bearer_speaks_for_itself(http, ann, action):
    http.post("/log", {"action": action}, token=ann.token, expect=201)
    http.post("/log", {"action": action, "user_id": ann.id}, token=ann.token, expect=201)
    assert [e["user_id"] for e in listed(http, action)] == [ann.id, ann.id]
    reply = http.post("/log", {"action": action, "user_id": ann.id + 1}, token=ann.token,
        expect=422)
    assert reply.pointers == {"#/user_id"}
    assert len(listed(http, action)) == 2


def test_from_outside_nobody_reads_or_claims(http, service, outside, ann, action):
    for path in ("/log", "/log/summary"):
        outside.get(path, expect=401)
        outside.get(path, token=ann.token, expect=403)
        outside.get(path, token=http.admin, expect=200)
        service.get(path, expect=200)
    outside.post("/log", {"action": action}, expect=201)
    reply = outside.post("/log", {"action": action, "user_id": ann.id}, expect=422)
    assert reply.pointers == {"#/user_id"}
    assert [e["user_id"] for e in listed(http, action)] == [None]


@pytest.fixture(scope="module")
def history(http):
    """An entry for each of four times, the user alternating."""
    action = f"test.{uuid.uuid4().hex}"
    times = ["2001-03-01T10:00:00.000Z", "2001-03-01T10:59:59.999Z", "2001-03-01T11:00:00.000Z",
        "2001-03-02T00:00:00.000Z"]
    user = 10**12 + uuid.uuid4().int % 10**9
    http.post("/log", [{"action": action, "at": at, "user_id": user + n % 2,
        "data": {"text": 'a "quoted", text\nof two lines'}} for n, at in enumerate(times)],
        expect=201)
    return action, times, user


@pytest.mark.parametrize("query, which", [
    ("", [0, 1, 2, 3]),
    ("&from=2001-03-01T10:59:59.999Z", [1, 2, 3]),
    ("&to=2001-03-01T11:00:00Z", [0, 1]),
    ("&from=2001-03-01T10:00:00Z&to=2001-03-02T00:00:00Z", [0, 1, 2]),
    ("&from=2001-03-01T11:00:00%2B01:00", [0, 1, 2, 3]),
    ("&from=2002-01-01T00:00:00Z", []),
    ("&user_id={user}", [0, 2]),
])
def test_entries_are_selected(http, history, query, which):
    action, times, user = history
    for path in ("/log", "/log/"):
        path = f"{path}?action={action}{query.format(user=user)}"
        for limit in (1, 3, 200):
            found = http.pages(f"{path}&limit={limit}")
            assert sorted(e["at"] for e in found) == [times[n] for n in which]


def test_entries_are_exported(http, history):
    action, times, _ = history
    path = f"/log?action={action}"
    entries = listed(http, action)
    reply = http.get(path, headers={"Accept": "application/x-ndjson"}, expect=200)
    assert reply.type == "application/x-ndjson"
    assert [json.loads(line) for line in reply.body.splitlines()] == entries
    http.get(path, headers={"Accept": "image/png"}, expect=406)
    reply = http.get(path, headers={"Accept": "text/csv"}, expect=200)
    assert reply.type == "text/csv"
    rows = list(csv.DictReader(io.StringIO(reply.body.decode(), newline="")))
    assert set(rows[0]) == MEMBERS
    assert [(int(r["id"]), r["at"], int(r["user_id"]), r["action"], json.loads(r["data"]))
        for r in rows] == [tuple(e[m] for m in ("id", "at", "user_id", "action", "data"))
        for e in entries]


def test_entries_are_counted(http, history):
    action, times, user = history
    span = "from=2001-03-01T00:00:00Z&to=2001-03-03T00:00:00Z"

    def counts(group):
        reply = http.get(f"/log/summary?{span}&group_by={group}", expect=200).json
        return sum(item["count"] for item in reply["items"]), len(reply["items"])

    total = counts("action")[0]
    assert total >= 4
    assert counts("hour")[0] == counts("day")[0] == total
    assert counts("hour")[1] == 3 and counts("day")[1] == 2


@pytest.mark.parametrize("path, pointer", [
    ("/log?from=yesterday", "?from"), ("/log?to=1", "?to"), ("/log?user_id=x", "?user_id"),
    ("/log?limit=0", "?limit"), ("/log?cursor=x", "?cursor"), ("/log?nonsense=1", "?nonsense"),
    ("/log/summary?group_by=week", "?group_by"), ("/log/summary?from=x", "?from"),
    ("/log/summary?nonsense=1", "?nonsense"),
])
def test_faults_of_a_query_are_named(http, path, pointer):
    assert http.get(path, expect=422).pointers == {pointer}


def test_a_user_is_forgotten(http, service, ann, action):
    http.post("/log", {"action": action}, token=ann.token, expect=201)
    http.delete(f"/log?user_id={ann.id}", token=ann.token, expect=403)
    service.delete(f"/log?user_id={ann.id}", expect=204)
    assert service.get(f"/log?user_id={ann.id}", expect=200).json["items"] == []
