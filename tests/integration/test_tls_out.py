"""Outbound TLS: partners of each virtue against each level and strength (spec A6, A7, B3, B7, D8, D9, Q1, Q4)."""
import ssl

import pytest
from conftest import CARD
from postseal_lab.gateway import wait_for

WEAK = {"max_tls": ssl.TLSVersion.TLSv1_2, "ciphers": "ECDHE-ECDSA-AES128-GCM-SHA256"}
OLD = {"min_tls": ssl.TLSVersion.TLSv1, "max_tls": ssl.TLSVersion.TLSv1, "ciphers": "ALL:@SECLEVEL=0"}

# virtue: (options of the sink, {level: failure of an Encrypt-marked message, None = delivered})
OK = None
ALL = ("encrypt", "encrypt_cn", "verify", "verify_cn")


def row(*failures):
    return dict(zip(ALL, failures if len(failures) == 4 else failures * 4))


CERT = "tls_certificate"
VIRTUES = {
    "good": ({}, row(OK)),
    "rsa": ({"kind": "2048"}, row(OK)),
    "expired": ({"cert": "expired"}, row(OK, OK, CERT, CERT)),
    "notyet": ({"cert": "not-yet"}, row(OK, OK, CERT, CERT)),
    "selfsigned": ({"cert": "self-signed"}, row(OK, OK, CERT, CERT)),
    "wrongname": ({"names": ["mx.somebody-else.test"]}, row(OK, CERT, OK, CERT)),
    "wrongboth": ({"names": ["other.test"], "cert": "self-signed"}, row(OK, CERT, CERT, CERT)),
    "wildcard": ({"names": ["*.wildcard.test"]}, row(OK)),
    "deepwild": ({"names": ["*.test"]}, row(OK, CERT, OK, CERT)),
    "none": ({"tls": "none", "cert": "none"}, row("tls_not_offered")),
    "refuse": ({"tls": "refuse"}, row("tls_refused")),
    "break": ({"tls": "break"}, row("tls_handshake")),
    "alert": ({"tls": "alert"}, row("tls_handshake")),
    "inject": ({"tls": "inject"}, row("tls_handshake")),
    "old": (OLD, row("tls_handshake")),
    "weak": (WEAK, row(OK)),
}
CLEAR_SAME_CONNECTION = ("none", "refuse")
CLEAR_NEW_CONNECTION = ("break", "alert", "inject", "old")


@pytest.fixture(scope="module")
def world(new_world):
    w = new_world()
    for name, (options, _) in VIRTUES.items():
        w.partner(name + ".test", **options)
    w.partner("stall.test", tls="stall")
    return w.start(delivery__command_timeout_s=2, delivery__greeting_timeout_s=2,
                   conn__handshake_timeout_s=2)


def outcome(world, id):
    """delivered or delayed, with the detail of the attempt."""
    def found():
        for e in world.gateway.trace(id):
            if e["event"] in ("delivered", "delayed", "bounced"):
                return e["event"], e["detail"]
        return None
    return wait_for(found, 20, "outcome of " + id)


def send_to_all(world, names, body, tag):
    return {n: world.send("alice@inside.test", "bob@%s.test" % n, "%s %s" % (tag, n), body)
            for n in names}


@pytest.mark.parametrize("strength", ["medium", "high"])
@pytest.mark.parametrize("level", ALL)
def test_encrypt_marked(world, level, strength):
    world.drop_all()
    world.clear()
    world.deploy(encryption__level=level, encryption__strength=strength)
    ids = send_to_all(world, VIRTUES, "my card " + CARD, "secret")
    for name, id in ids.items():
        event, detail = outcome(world, id)
        expected = VIRTUES[name][1][level]
        failure = detail["failure"]
        sink = world.sinks[name + ".test"]
        if name == "weak" and strength == "high":
            assert event == "delayed" and failure in ("tls_handshake", "tls_weak"), (name, detail)
        elif expected is None:
            assert event == "delivered", (name, detail)
            assert [m.tls is not None for m in sink.mails] == [True], name
            assert detail["tls"]["bits"] >= (256 if strength == "high" else 128), (name, detail)
            continue
        else:
            assert (event, failure) == ("delayed", expected), (name, detail)
        assert "TLS is required for this message and failed" in detail["human"], (name, detail)
        assert not sink.saw("MAIL"), (name, sink.commands)
        assert not sink.mails
        assert detail["next"], "the delayed queue names the next attempt"
        assert detail["required"] == level and detail["required_bits"] == (
            256 if strength == "high" else 128)


def test_encrypt_marked_stall(world):
    """A server that never answers the handshake: delayed as a TLS failure by time (A7), never clear."""
    world.drop_all()
    world.clear()
    world.deploy(encryption__level="encrypt", encryption__strength="medium")
    id = world.send("alice@inside.test", "bob@stall.test", "secret", "card " + CARD)
    event, detail = outcome(world, id)
    assert event == "delayed" and detail["failure"] in ("timeout", "tls_handshake"), detail
    assert not world.sinks["stall.test"].saw("MAIL")


def test_first_retry_after_15_minutes(world):
    """Q1: no STARTTLS, no backup: no MAIL, delayed queue, next attempt 15 minutes later."""
    import datetime
    world.clear()
    id = world.send("alice@inside.test", "bob@none.test", "secret", "card " + CARD)
    outcome(world, id)
    message = wait_for(lambda: world.gateway.queue("--id", id), 10, "queued message")[0]
    assert message["queue"] == "delayed" and message["encrypt"]
    when = [datetime.datetime.fromisoformat(message[k].replace("Z", "+00:00"))
            for k in ("received", "next")]
    assert 14.8 * 60 <= (when[1] - when[0]).total_seconds() <= 15.5 * 60
    assert not world.sinks["none.test"].saw("MAIL")


def test_harmless_is_delivered_anyhow(world):
    """D8, D9, Q4: opportunistic TLS; after a broken handshake a second connection in clear, and a log line."""
    world.drop_all()
    world.clear()
    world.deploy(encryption__level="verify_cn", encryption__strength="high")
    ids = send_to_all(world, VIRTUES, "nothing special", "plain")
    for name, id in ids.items():
        event, detail = outcome(world, id)
        sink = world.sinks[name + ".test"]
        assert event == "delivered", (name, detail)
        assert len(sink.mails) == 1
        in_clear = name in CLEAR_SAME_CONNECTION + CLEAR_NEW_CONNECTION
        assert (sink.mails[0].tls is None) == in_clear, name
        assert sink.connections == (2 if name in CLEAR_NEW_CONNECTION else 1), (
            name, sink.connections, sink.commands)
        if name in CLEAR_NEW_CONNECTION:
            assert sink.commands.count("STARTTLS") == 1, "no STARTTLS on the second connection"
            log = world.gateway.log_text()
            assert "%s: TLS failed: trying a new connection in clear" % id in log
            assert any(e["event"] == "tls-failed" for e in world.gateway.trace(id))


def test_harmless_stall_is_delayed(world):
    """A time-out is not a handshake failure: no clear text follows, the message waits."""
    world.clear()
    id = world.send("alice@inside.test", "bob@stall.test", "plain", "nothing")
    event, detail = outcome(world, id)
    assert (event, detail["failure"]) == ("delayed", "timeout"), detail
    assert not world.sinks["stall.test"].mails


def test_route_without_tls(world):
    """tls = off: no STARTTLS for harmless mail; Encrypt-marked mail still demands it."""
    world.drop_all()
    world.clear()
    world.deploy({"routes.conf": "[route default]\ndeliver = mx\nport = %d\ntls = off\n"
                                 % world.port}, encryption__level="encrypt",
                 encryption__strength="medium")
    id = world.send("alice@inside.test", "bob@good.test", "plain", "nothing")
    assert outcome(world, id)[0] == "delivered"
    assert not world.sinks["good.test"].saw("STARTTLS")
    assert world.sinks["good.test"].mails[0].tls is None
    id = world.send("alice@inside.test", "bob@good.test", "secret", "card " + CARD)
    assert outcome(world, id)[0] == "delivered"
    assert world.sinks["good.test"].mails[1].tls


def test_reply_after_good_handshake_is_no_tls_failure(world):
    """A7: a 4xx after a good handshake is an ordinary failure."""
    sink = world.sinks["good.test"]
    world.drop_all()
    world.clear()
    world.deploy()
    sink.script["RCPT"] = "451 4.2.0 come back"
    try:
        id = world.send("alice@inside.test", "bob@good.test", "secret", "card " + CARD)
        event, detail = outcome(world, id)
    finally:
        del sink.script["RCPT"]
    assert (event, detail["failure"]) == ("delayed", "smtp_temporary"), detail
    assert "TLS" not in detail["human"]


def test_encrypt_never_reuses_a_clear_connection(world):
    """Connections are kept for reuse by next hop and policy."""
    world.drop_all()
    world.clear()
    world.deploy(delivery__connection_idle_s=30)
    sink = world.sinks["none.test"]
    id = world.send("alice@inside.test", "bob@none.test", "plain", "nothing")
    assert outcome(world, id)[0] == "delivered"
    id = world.send("alice@inside.test", "bob@none.test", "secret", "card " + CARD)
    assert outcome(world, id)[0] == "delayed"
    assert all(CARD.encode() not in m.data for m in sink.mails)
    assert sum(1 for c in sink.commands if c.startswith("MAIL")) == 1
    id = world.send("alice@inside.test", "bob@good.test", "plain 1", "nothing")
    assert outcome(world, id)[0] == "delivered"
    id = world.send("alice@inside.test", "bob@good.test", "plain 2", "nothing")
    assert outcome(world, id)[0] == "delivered"
    assert world.last(id, "delivered")["reused"]
    assert world.sinks["good.test"].connections <= 1, "kept from before, or made once"


def test_level_is_checked_on_reused_session(world):
    """A session made under level encrypt does not serve verify_cn."""
    world.drop_all()
    world.clear()
    world.deploy(delivery__connection_idle_s=30, encryption__level="encrypt")
    id = world.send("alice@inside.test", "bob@selfsigned.test", "secret", "card " + CARD)
    assert outcome(world, id)[0] == "delivered"
    world.deploy(encryption__level="verify_cn")
    id = world.send("alice@inside.test", "bob@selfsigned.test", "secret", "card " + CARD)
    assert outcome(world, id)[1]["failure"] == CERT


def test_sni_and_resumption(world):
    """The second connection resumes the TLS session."""
    world.drop_all()
    world.clear()
    world.deploy(delivery__connection_idle_s=0, encryption__level="verify_cn",
                 encryption__strength="high")
    for i in range(2):
        id = world.send("alice@inside.test", "bob@good.test", "secret %d" % i, "card " + CARD)
        assert outcome(world, id)[0] == "delivered"
    detail = world.last(id, "delivered")
    assert detail["tls"]["resumed"], detail
    assert detail["tls"]["chain_ok"] and detail["tls"]["name_ok"], detail
    assert world.sinks["good.test"].sni == "mx.good.test"


def test_nothing_secret_in_clear_in_the_whole_run(world):
    for domain, sink in world.sinks.items():
        for m in sink.all_mails:
            assert m.tls or CARD.encode() not in m.data, domain
