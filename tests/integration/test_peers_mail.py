"""Mail between real servers through the gateway: Postfix, Exim and OpenSMTPD as senders and next hops."""
import itertools
import re
import smtplib

import pytest
from conftest import CARD
from postseal_lab.gateway import wait_for
from postseal_lab.peers import PEERS, header

PAIRS = list(itertools.permutations(sorted(PEERS), 2))
TLS_PAIRS = [(a, b) for a, b in PAIRS if PEERS[b].serves_tls]
OTHERS = sorted(PEERS)
MIB = 1024 * 1024

BODIES = {
    "plain": b"Hello,\r\n\r\nbest regards\r\n",
    "dots": b".\r\n..\r\n.hidden\r\n...three\r\n\r\n.\r\nend\r\n",
    "eight-bit": "Grüße, 世界\r\n".encode() + bytes(range(0x80, 0x100)) + b"\r\n",
    "long-lines": b"a" * 998 + b"\r\n" + b"b" * 999 + b"\r\n." + b"c" * 5000 + b"\r\n" + b"d" * 30000
                  + b"\r\n",
    "blanks": b" \r\n\t\r\n  leading\r\ntrailing  \r\n\r\n\r\n",
    "lone": b"x\r\n",
}


@pytest.fixture(scope="module")
def lab(new_world):
    world = new_world()
    gateway = ("127.0.0.1", world.gateway.ports["smtp"])
    peers = {}
    for i, (name, cls) in enumerate(PEERS.items()):
        domain = name + ".test"
        cert, key = world.ca.issue(domain, ["mx." + domain])
        ip, plain_ip = "127.0.0.%d" % (60 + i), "127.0.0.%d" % (70 + i)
        world.dns.mail_host(domain, ip)
        world.dns.mail_host("plain." + domain, plain_ip)
        peers[name] = cls(ip, plain_ip, world.port, domain, cert, key, gateway)
    world.peers = peers
    try:
        for p in peers.values():
            p.launch()
        trusted = ["127.0.0.1"] + [p.ip for p in peers.values()]
        world.gateway.start(60)
        world.deploy(trusted=trusted, encryption__level="verify_cn",
                     delivery__delay_warning_min="0")
        for p in peers.values():
            p.start()
        yield world
    finally:
        for p in peers.values():
            p.close()


@pytest.fixture
def world(lab):
    """The lab, under the name whose log a failure shows."""
    return lab


counter = itertools.count(1)


def message(sender, to, subject, body):
    return (b"From: <%s>\r\nTo: <%s>\r\nSubject: %s\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n"
            b"Message-ID: <%d.lab@lab.test>\r\nMIME-Version: 1.0\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" % (
                sender.encode(), to.encode(), subject.encode(), next(counter))) + body


def transfer(world, a, to, body, *, options=(), rcpt_options=(), tag="mail"):
    """Sends from a peer; (subject, message)."""
    sender = "user@%s.test" % a
    subject = "%s %d from %s" % (tag, next(counter), a)
    data = message(sender, to, subject, body)
    world.peers[a].send(sender, to, data, options, rcpt_options)
    return subject, data


def arrived(world, b, subject, data):
    """What b stored, which ends with exactly what a was given."""
    got = world.peers[b].wait(subject)
    assert len(got) == 1
    assert got[0].endswith(data), (got[0][-300:], data[-300:])
    return got[0]


def queue_id(stored):
    """The gateway's id from its Received field."""
    return re.search(rb"by gateway\.lab\.test.*?ESMTPS id (\S+)", stored, re.S).group(1).decode()


def waiting(world, domain):
    """Queue ids of what waits for a domain."""
    return [m["id"] for m in world.gateway.queue("--domain", domain)]


@pytest.mark.parametrize("body", sorted(BODIES))
@pytest.mark.parametrize("a,b", PAIRS)
def test_bytes_arrive_as_they_were(world, a, b, body):
    options = ["BODY=8BITMIME"] if body == "eight-bit" else []
    subject, data = transfer(world, a, "user@%s.test" % b, BODIES[body], options=options)
    arrived(world, b, subject, data)


@pytest.mark.parametrize("a,b", TLS_PAIRS)
def test_tls_in_and_out(world, a, b):
    subject, data = transfer(world, a, "user@%s.test" % b, b"nothing secret\r\n")
    stored = arrived(world, b, subject, data)
    id = queue_id(stored)   # ESMTPS: in by TLS
    detail = world.gateway.wait_event(id, "delivered")[0]["detail"]
    assert detail["tls"]["version"] == "TLSv1.3" and detail["required"] == "opportunistic"
    own = stored.split(b"by gateway.lab.test")[0]
    assert re.search({"postfix": rb"using TLSv1\.3", "exim": rb"\(TLS1\.3\)"}[b], own), own


@pytest.mark.parametrize("a,b", TLS_PAIRS)
def test_card_number_by_verified_tls(world, a, b):
    subject, data = transfer(world, a, "user@%s.test" % b, b"card " + CARD.encode() + b"\r\n")
    id = queue_id(arrived(world, b, subject, data))
    detail = world.gateway.wait_event(id, "delivered")[0]["detail"]
    assert detail["required"] == "verify_cn" and detail["tls"]["version"] == "TLSv1.3"
    decided = world.gateway.wait_event(id, "decided")[0]["detail"]
    assert decided["encrypt"] and decided["method"] == "tls"


@pytest.mark.parametrize("a,b", TLS_PAIRS)
def test_five_megabytes(world, a, b):
    line = b"%07d " + b"large " * 11 + b"\r\n"
    body = b"".join(line % n for n in range(5 * MIB // len(line % 0)))
    subject, data = transfer(world, a, "user@%s.test" % b, body)
    arrived(world, b, subject, data)


@pytest.mark.parametrize("b", OTHERS)
def test_in_clear_where_tls_is_not_offered(world, b):
    a = "exim" if b == "postfix" else "postfix"
    subject, data = transfer(world, a, "user@plain.%s.test" % b, b"nothing secret\r\n")
    id = queue_id(arrived(world, b, subject, data))
    detail = world.gateway.wait_event(id, "delivered")[0]["detail"]
    assert detail["tls"]["version"] == "none" and detail["required"] == "opportunistic"


@pytest.mark.parametrize("b", OTHERS)
def test_card_number_waits_where_tls_is_not_offered(world, b):
    a = "exim" if b == "postfix" else "postfix"
    secret = b"card " + CARD.encode() + b"\r\n"
    domain = "plain.%s.test" % b
    subject, _ = transfer(world, a, "user@" + domain, secret)
    id = wait_for(lambda: waiting(world, domain), 20, "delayed mail")[0]
    delayed = world.gateway.wait_event(id, "delayed")[0]["detail"]
    assert delayed["failure"] == "tls_not_offered"
    assert not any(subject.encode() in header(m, b"subject") for m in world.peers[b].mails())
    world.gateway.ctl("queue", "drop", id, "--yes")


def test_broken_tls_of_a_real_server(world):
    """OpenSMTPD here offers STARTTLS and fails: harmless mail goes on in clear, marked mail waits."""
    subject, data = transfer(world, "postfix", "user@opensmtpd.test", b"nothing secret\r\n")
    id = queue_id(arrived(world, "opensmtpd", subject, data))
    assert world.gateway.wait_event(id, "delivered")[0]["detail"]["tls"]["version"] == "none"
    transfer(world, "postfix", "user@opensmtpd.test", b"card " + CARD.encode() + b"\r\n",
             tag="marked")
    id = wait_for(lambda: waiting(world, "opensmtpd.test"), 20, "delayed mail")[0]
    delayed = world.gateway.wait_event(id, "delayed")[0]["detail"]
    assert delayed["failure"] == "tls_handshake"
    assert not any(b"marked" in header(m, b"subject") for m in world.peers["opensmtpd"].mails())
    world.gateway.ctl("queue", "drop", id, "--yes")


def report_fields(report):
    """Fields of message/delivery-status, lower case names."""
    part = report.split(b"message/delivery-status", 1)[1].split(b"\r\n--", 1)[0]
    part = re.sub(rb"\r\n[ \t]+", b" ", part)
    pairs = (line.split(b":", 1) for line in part.split(b"\r\n") if b":" in line)
    return {k.strip().lower().decode(): v.strip().decode() for k, v in pairs}


def reports(world, a, mark):
    """Delivery reports at a that mention a text."""
    def found():
        return [m for m in world.peers[a].mails()
                if b"multipart/report" in header(m, b"content-type") and mark in m]
    return wait_for(found, 30, "report %r at %s: %s" % (mark, a, world.peers[a].log_text()))


@pytest.mark.parametrize("a,b", PAIRS)
def test_refused_recipient_comes_back(world, a, b):
    nobody = "nobody%d@%s.test" % (next(counter), b)
    transfer(world, a, nobody, b"nothing secret\r\n")
    report = reports(world, a, nobody.encode())[0]
    fields = report_fields(report)
    assert fields["action"] == "failed" and fields["status"][0] == "5"
    assert fields["final-recipient"] == "rfc822; " + nobody
    assert fields["reporting-mta"] == "dns; gateway.lab.test"
    assert re.match(r"smtp; 5\d\d (?!5\d\d )", fields["diagnostic-code"])
    assert header(report, b"return-path") in (b"<>", b"")


@pytest.mark.parametrize("a,b", TLS_PAIRS)
def test_report_on_a_marked_message_shows_nothing_of_it(world, a, b):
    nobody = "nobody%d@%s.test" % (next(counter), b)
    subject, _ = transfer(world, a, nobody, b"card " + CARD.encode() + b"\r\n", tag="secret-plan")
    if PEERS[a].serves_tls:
        report = reports(world, a, nobody.encode())[0]
        assert CARD.encode() not in report and subject.encode() not in report
    else:  # the report obeys the same rule as the message: it waits too
        domain = a + ".test"
        id = wait_for(lambda: waiting(world, domain), 20, "waiting report")[0]
        delayed = world.gateway.wait_event(id, "delayed")[0]["detail"]
        assert delayed["failure"] == "tls_handshake"
        world.gateway.ctl("queue", "drop", id, "--yes")


@pytest.mark.parametrize("a,b", [("exim", "postfix"), ("opensmtpd", "postfix"), ("postfix", "exim")])
def test_dsn_parameters_are_handed_on(world, a, b):
    """The next hop reports success and knows ENVID and ORCPT, which only the gateway can have told."""
    envid = "env-%d-%s" % (next(counter), a)
    subject, data = transfer(
        world, a, "user@%s.test" % b, b"nothing secret\r\n",
        options=["RET=HDRS", "ENVID=" + envid],
        rcpt_options=["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;first+2Bone@elsewhere.test"])
    arrived(world, b, subject, data)
    fields = report_fields(reports(world, a, envid.encode())[0])
    assert fields["reporting-mta"] == "dns; mx.%s.test" % b
    assert fields["action"] == "delivered"
    assert fields["original-envelope-id"] == envid
    # RFC 3461 5.2.3: handed on as it came; Postfix decodes it in its report, Exim does not
    first = "first+one" if b == "postfix" else "first+2Bone"
    assert fields["original-recipient"].replace(" ", "") == "rfc822;%s@elsewhere.test" % first


@pytest.mark.parametrize("a", OTHERS)
def test_never_is_never(world, a):
    """NOTIFY=NEVER: no report about a refused recipient."""
    b = "exim" if a == "postfix" else "postfix"
    nobody = "nobody%d@%s.test" % (next(counter), b)
    transfer(world, a, nobody, b"nothing secret\r\n", rcpt_options=["NOTIFY=NEVER"])

    def bounced():
        return [e for m in world.gateway.ctl_json("message", "find", nobody) if "id" in m
                for e in world.gateway.trace(m["id"]) if e["event"] == "bounced"]
    wait_for(bounced, 30, "end of the mail to " + nobody)
    assert not waiting(world, a + ".test")
    assert not any(nobody.encode() in m for m in world.peers[a].mails())


def test_recipients_at_several_servers(world):
    """One message, five recipients at three servers: each gets it once, and the blind ones stay so."""
    subject = "several %d" % next(counter)
    data = message("user@exim.test", "user@postfix.test", subject, b"nothing secret\r\n")
    to = ["user@postfix.test", "second@postfix.test", "user@opensmtpd.test", "second@opensmtpd.test",
          "second@plain.exim.test"]
    with smtplib.SMTP("127.0.0.1", world.gateway.ports["smtp"], timeout=30) as c:
        assert c.sendmail("user@exim.test", to, data) == {}
    for b, n in (("postfix", 2), ("opensmtpd", 2), ("exim", 1)):
        got = world.peers[b].wait(subject, n)
        assert len(got) == n and all(m.endswith(data) for m in got)
        for other in set(OTHERS) - {b}:   # no server learns of another's recipients
            assert not any(b"second@%s" % other.encode() in m for m in got)


@pytest.mark.parametrize("a,b", TLS_PAIRS)
def test_burst(world, a, b):
    """What a server sends over several connections at once arrives whole, each message once."""
    n, tag = 60, "burst %d" % next(counter)
    expected = set()
    with smtplib.SMTP(world.peers[a].plain_ip, world.port, timeout=30) as c:
        for i in range(n):
            data = message("user@%s.test" % a, "user@%s.test" % b, "%s-%d" % (tag, i),
                           b"line %d\r\n" % i * (1 + 37 * i))
            expected.add(data)
            assert c.sendmail("user@%s.test" % a, ["user@%s.test" % b], data) == {}
    got = world.peers[b].wait(tag + "-", n, timeout=90)
    assert len(got) == n
    assert {m[m.index(b"From: <user@%s.test>" % a.encode()):] for m in got} == expected


def test_strangers(world):
    """Peers that are not trusted reach the protected domain, and nothing beyond it."""
    trusted = ["127.0.0.1"] + [p.ip for p in world.peers.values()]
    common = {"encryption__level": "verify_cn", "delivery__delay_warning_min": "0"}
    world.deploy(protected=("postfix.test",), **common)
    try:
        for a in ("exim", "opensmtpd"):
            subject, data = transfer(world, a, "user@postfix.test", b"nothing secret\r\n")
            id = queue_id(arrived(world, "postfix", subject, data))
            assert world.gateway.wait_event(id, "decided")[0]["detail"]["direction"] == "inbound"
        outside = "user%d@plain.opensmtpd.test" % next(counter)
        transfer(world, "exim", outside, b"nothing secret\r\n")
        report = reports(world, "exim", outside.encode())[0]
        assert b"550 5.7.1" in report or b"550-5.7.1" in report
    finally:
        world.deploy(trusted=trusted, **common)


def test_nothing_is_left(world):
    wait_for(lambda: not world.gateway.queue(), 20, "empty queue")
    assert "Sanitizer" not in world.gateway.log_text()
