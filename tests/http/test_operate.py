"""What an operator asks each instance, through nginx."""

import http.client

import pytest

from stack import SERVICES

INSTANCES = [(s, n) for s in SERVICES for n in (1, 2)]


@pytest.mark.parametrize("name, n", INSTANCES)
def test_health(http, name, n):
    health = http.get(f"/_health/{name}/{n}", expect=200).json
    assert (health["status"], health["service"], health["instance"]) == ("ok", name, str(n))


def test_health_is_for_the_internal_network(stack, http, service):
    path = "/_health/user/1"
    assert service.get(path).status == 200
    assert http.get(path, token=http.new_user().token).status == 200    # from here, who asks is the same
    assert http.post(path, {}).status == 405
    assert http.get("/_health/user/9").status == 503
    assert http.get("/_health/nobody/1").status == 404
    assert http.get("/_health/user/0").status == 404


def fetch(stack, path, accept):
    connection = http.client.HTTPConnection("127.0.0.1", stack.http_port, timeout=20)
    connection.request("GET", path, headers={"Accept": accept})
    reply = connection.getresponse()
    return reply, reply.read().decode()


@pytest.mark.parametrize("name, n", INSTANCES)
def test_metrics(stack, name, n):
    reply, page = fetch(stack, f"/_metrics/{name}/{n}", "*/*")
    assert reply.status == 200 and reply.headers["Content-Type"].startswith("text/plain")
    assert f'coster_build_info{{service="{name}"' in page
    reply, page = fetch(stack, f"/_metrics/{name}/{n}", "application/openmetrics-text")
    assert reply.headers["Content-Type"].startswith("application/openmetrics-text")
    assert page.endswith("\n# EOF\n")
