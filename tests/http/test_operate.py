"""What an operator asks each instance, through nginx."""

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


@pytest.mark.parametrize("name, n", INSTANCES)
def test_metrics(http, name, n):
    reply = http.get(f"/_metrics/{name}/{n}", headers={"Accept": "*/*"}, expect=200)
    assert reply.type == "text/plain"
    assert f'coster_build_info{{service="{name}"' in reply.body.decode()
    reply = http.get(f"/_metrics/{name}/{n}", headers={"Accept": "application/openmetrics-text"})
    assert reply.type == "application/openmetrics-text"
    assert reply.body.endswith(b"\n# EOF\n")
