"""One pass through the whole house: in by STARTTLS, scan, decision, out by each way, restart."""
import pytest

from postseal_lab.ca import CA
from postseal_lab.dns import DNS
from postseal_lab.gateway import Gateway, mail
from postseal_lab.sink import Sink

CARD = "Card 4111 1111 1111 1111"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    ca = CA(str(tmp_path_factory.mktemp("ca")))
    dns = DNS()
    cert, key = ca.issue("good", ["mx.good.test"])
    good = Sink("127.0.0.2", 0, cert=cert, key=key, hostname="mx.good.test")
    plain = Sink("127.0.0.3", good.port, tls="none", hostname="mx.plain.test")
    broken = Sink("127.0.0.4", good.port, tls="alert", hostname="mx.broken.test")
    for domain, ip in (("good.test", "127.0.0.2"), ("plain.test", "127.0.0.3"),
                       ("broken.test", "127.0.0.4")):
        dns.mail_host(domain, ip)
    gateway = Gateway(ca=ca.path, dns=dns)
    gateway.start(60)
    gateway.world(good.port)
    yield gateway, good, plain, broken
    gateway.close()
    for s in (good, plain, broken):
        s.close()
    dns.close()


def send(gateway, to, body, subject):
    return gateway.send("a@inside.test", to, mail("a@inside.test", to, subject, body))


def test_harmless_by_opportunistic_tls(world):
    gateway, good, _, _ = world
    id = send(gateway, "b@good.test", "hello", "harmless")
    got = good.wait(1, match=lambda m: m.header("Subject") == "harmless")[0]
    assert got.tls and got.tls[0] == "TLSv1.3"
    assert b"hello" in got.data and b"ESMTPS id " + id.encode() in got.data
    delivered = gateway.wait_event(id, "delivered")[0]["detail"]
    assert delivered["tls"]["version"] == "TLSv1.3" and delivered["required"] == "opportunistic"


def test_harmless_in_clear_where_tls_is_not_offered(world):
    gateway, _, plain, _ = world
    send(gateway, "b@plain.test", "hello", "clear")
    assert plain.wait(1, match=lambda m: m.header("Subject") == "clear")[0].tls is None


def test_harmless_falls_back_on_a_second_connection(world):
    gateway, _, _, broken = world
    before = broken.connections
    send(gateway, "b@broken.test", "hello", "fallback")
    broken.wait(1, match=lambda m: m.header("Subject") == "fallback")
    assert broken.connections >= before + 2


def test_card_number_travels_by_mandatory_tls(world):
    gateway, good, _, _ = world
    id = send(gateway, "b@good.test", CARD, "card")
    got = good.wait(1, match=lambda m: m.header("Subject") == "card")[0]
    assert got.tls and "RET=HDRS" in got.mail_line  # other servers' bounces shall not return it
    decided = gateway.wait_event(id, "decided")[0]["detail"]
    assert decided["encrypt"] and decided["method"] == "tls"
    assert gateway.wait_event(id, "delivered")[0]["detail"]["required"] == "encrypt"


def test_card_number_waits_where_tls_fails(world):
    gateway, _, plain, broken = world
    for to, failure in (("b@plain.test", "tls_not_offered"), ("b@broken.test", "tls_handshake")):
        id = send(gateway, to, CARD, "waits")
        assert gateway.wait_event(id, "delayed")[0]["detail"]["failure"] == failure
        assert gateway.queue("--id", id)[0]["encrypt"]
    assert not any(b"4111" in m.data for m in plain.mails + broken.mails)


def test_restart_keeps_what_waits_and_its_mark(world):
    gateway, _, plain, _ = world
    before = {m["id"]: m["encrypt"] for m in gateway.queue()}
    assert before and all(before.values())
    gateway.stop()
    gateway.start(60)
    assert {m["id"]: m["encrypt"] for m in gateway.queue()} == before
    gateway.ctl("queue", "retry", "--queue", "delayed", "--yes")
    id = sorted(before)[0]
    gateway.wait_event(id, "delayed")
    assert not any(b"4111" in m.data for m in plain.mails)


def test_stops_cleanly(world):
    gateway, _, _, _ = world
    gateway.stop()
    assert gateway.process.returncode == 0
    assert "Sanitizer" not in gateway.log_text()
    assert gateway.ctl("spool", "verify").returncode == 0
