"""Messages of many recipients, of any size and of any bytes."""
import hashlib
import os
import random

import pytest
from conftest import CARD
from postseal_lab.gateway import mail, wait_for

NO_8BIT = ("PIPELINING", "SIZE 52428800", "ENHANCEDSTATUSCODES", "DSN")


@pytest.fixture(scope="module")
def world(new_world):
    w = new_world()
    for domain in ("inside.test", "outside.test", "other.test"):
        w.partner(domain)
    w.partner("none.test", tls="none", cert="none")
    w.partner("seven.test", extensions=NO_8BIT)
    return w.start(delivery__recipients_per_transaction=100)


def counters(world):
    return world.gateway.ctl_json("status")[0]["since_start"]


def behind_trace(got, sent):
    """The message as it was sent, behind the fields that we put in front."""
    head = got[:len(got) - len(sent)]
    for line in head.split(b"\r\n"):
        assert not line or line[:1] in b" \t" or line.lower().startswith(
            (b"received:", b"x-postseal-")), line
    return got[len(head):]


def exact(world, message, to="b@outside.test", **options):
    sink = world.sinks[to.split("@")[1]]
    world.clear()
    id = world.gateway.send("a@inside.test", to, message, **options)
    got = sink.wait(1, timeout=60)[0].data
    tail = behind_trace(got, message)
    assert hashlib.sha256(tail).hexdigest() == hashlib.sha256(message).hexdigest()
    world.gateway.wait_event(id, "done")
    return id


def header(subject):
    return ("From: a@inside.test\r\nTo: b@outside.test\r\nSubject: %s\r\n"
            "Message-ID: <%s@lab.test>\r\n\r\n" % (subject, subject)).encode()


def large_files(world):
    """Files of large bodies with something in them; empty ones wait for their first use."""
    spool = os.path.join(world.gateway.data, "spool")
    sizes = {}
    for f in os.listdir(spool):
        try:
            sizes[f] = os.stat(os.path.join(spool, f)).st_size
        except FileNotFoundError:
            pass
    return [f for f, n in sizes.items() if f.startswith("big-") and n]


def test_thousand_recipients(world):
    world.clear()
    before = counters(world)
    to = ["user%d@outside.test" % i for i in range(1000)]
    id = world.send("a@inside.test", to, "many", "card " + CARD)
    world.gateway.wait_event(id, "done", 60)
    mails = world.sinks["outside.test"].mails
    assert sorted(r for m in mails for r in m.rcpts) == sorted(to), "each exactly once"
    assert all(m.tls for m in mails)
    assert all(len(m.rcpts) <= 100 for m in mails) and len(mails) == 10
    after = counters(world)
    assert after["scanned"] - before["scanned"] == 1
    assert after["received"] - before["received"] == 1
    events = world.gateway.trace(id)
    assert sum(e["event"] == "delivered" for e in events) == 1000
    assert not [e for e in events if e["event"] == "split"]


def test_split_by_plan(world):
    """0.3: the internal copy is permitted, the outbound one encrypted; both under one parent id."""
    world.clear()
    before = counters(world)
    text = mail("a@inside.test", "b@inside.test", "mixed", "card " + CARD,
                extra="Bcc: hidden@other.test, x@none.test\n")
    to = ["b@inside.test", "c@outside.test", "hidden@other.test", "x@none.test"]
    id = world.gateway.send("a@inside.test", to, text)
    inside = world.sinks["inside.test"].wait(1)[0]
    outside = world.sinks["outside.test"].wait(1)[0]
    hidden = world.sinks["other.test"].wait(1)[0]
    for m in (inside, outside, hidden):
        assert m.header("Bcc") is None
        assert b"hidden@other.test" not in m.data.replace(b"for <hidden@other.test>", b"") or \
            m is hidden
    assert inside.rcpts == ["b@inside.test"] and outside.rcpts == ["c@outside.test"]
    assert outside.tls and hidden.tls
    events = world.gateway.wait_event(id, "split")
    events = world.gateway.trace(id)
    copies = {e["id"] for e in events if e["parent"] == id}
    assert len(copies) == 2, copies
    decided = [e["detail"] for e in events if e["event"] == "decided"]
    assert sorted((d["direction"], d["action"]) for d in decided) == [
        ("internal", "permit"), ("outbound", "encrypt")]
    after = counters(world)
    assert after["scanned"] - before["scanned"] == 1
    assert after["split"] - before["split"] == 1
    none = wait_for(lambda: [e for e in world.gateway.trace(id) if e["event"] == "delayed"], 10,
                    "delayed recipient")
    assert none[0]["recipient"] == "x@none.test"
    left = world.gateway.queue()
    assert len(left) == 1 and left[0]["parent"] == id and left[0]["encrypt"]
    assert [r["state"] for r in left[0]["recipients"] if r["address"] == "x@none.test"] == \
        ["waiting"]
    world.drop_all()


def test_bcc_stays_when_byte_exact_otherwise(world):
    """Only the Bcc field goes; everything around it stays as it was."""
    world.clear()
    sent = (b"From: a@inside.test\r\nX-Odd:   two  spaces\t\r\nBcc: x@outside.test,\r\n"
            b" y@outside.test\r\nSubject: bcc\r\n\r\nbody\r\nBcc: not a field\r\n")
    world.gateway.send("a@inside.test", "b@outside.test", sent)
    got = world.sinks["outside.test"].wait(1)[0].data
    assert got.endswith(b"From: a@inside.test\r\nX-Odd:   two  spaces\t\r\nSubject: bcc\r\n\r\n"
                        b"body\r\nBcc: not a field\r\n")


@pytest.mark.parametrize("size", [60_000, 70_000, 1 << 20, 9 << 20])
@pytest.mark.parametrize("kind", ["text", "eight-bit"])
def test_large_bodies(world, size, kind):
    rng = random.Random(size)
    letters = b"abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ.,"
    if kind == "eight-bit":
        letters += bytes(range(0xa0, 0x100))
    block = bytes(rng.choice(letters) for _ in range(76 * 500))
    lines = b"".join(block[i:i + 76] + b"\r\n" for i in range(0, len(block), 76))
    body = (lines * (size // len(lines) + 1))[:size].rstrip(b"\r\n") + b"\r\n"
    options = ["BODY=8BITMIME"] if kind == "eight-bit" else []
    exact(world, header("large-%d" % size) + body, options=options)
    wait_for(lambda: not large_files(world), 10, "end of the files of large bodies")


def test_card_at_the_end_of_a_large_body(world):
    world.clear()
    body = ("words " * 12 + "\r\n").encode() * (4 << 14) + b"card 4111-1111-1111-1111\r\n"
    id = world.gateway.send("a@inside.test", "b@none.test", header("late-card") + body)
    world.gateway.wait_event(id, "delayed", 60)
    assert not world.sinks["none.test"].mails
    exact(world, header("late-card-2") + body)
    world.drop_all()


def test_large_body_to_two_plans(world):
    """The file of a large body is shared by the copies and gone afterwards."""
    world.clear()
    body = ("words " * 12 + "\r\n").encode() * (1 << 14) + b"card 4111-1111-1111-1111\r\n"
    message = header("large-split") + body
    id = world.gateway.send("a@inside.test", ["b@inside.test", "c@outside.test"], message)
    for domain in ("inside.test", "outside.test"):
        got = world.sinks[domain].wait(1, 60)[0]
        assert behind_trace(got.data, message) == message
    assert world.sinks["outside.test"].mails[0].tls
    world.gateway.wait_event(id, "done")
    wait_for(lambda: not large_files(world), 10, "end of the files of large bodies")


BYTES = {
    "8-bit header and body": b"From: a@inside.test\r\nSubject: \xc3\xa4\xff\r\n\r\n\xe4\xf6\xfc\x80\r\n",
    "no header": b"\r\nonly a body\r\n",
    "no body": b"Subject: nothing else\r\n",
    "empty body": b"Subject: empty\r\n\r\n",
    "not a header": b"this is no header at all\r\nand goes on\r\n",
    "blank lines at the end": b"Subject: x\r\n\r\ntext\r\n\r\n\r\n\r\n",
    "trailing blanks": b"Subject: x \t\r\n\r\ntext  \t\r\n \r\n\t\r\n",
    "dots": b"Subject: x\r\n\r\n.\r\n..\r\n...\r\n.x\r\n",
    "dot first": b".Subject: x\r\n\r\n.\r\n",
    "control bytes": b"Subject: x\r\n\r\n" + bytes(b for b in range(1, 32) if b not in (10, 13)) + b"\x7f\r\n",
    "folded fields": b"Subject: a\r\n b\r\n\tc\r\nX-Empty:\r\nX-Two: 1\r\nX-Two: 2\r\n\r\ntext\r\n",
    "mime oddities": b"Subject: m\r\nContent-Type: multipart/mixed; boundary=\"b\"\r\n\r\npre\r\n--b\r\n\r\n"
                     b"part\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!!\r\nepilogue without an end\r\n",
    "line of 998": b"Subject: x\r\n\r\n" + b"y" * 998 + b"\r\n",
}


@pytest.mark.parametrize("name", BYTES)
def test_bytes_are_kept(world, name):
    exact(world, BYTES[name], options=["BODY=8BITMIME"])


def test_body_type_is_declared(world):
    world.clear()
    exact(world, b"Subject: x\r\n\r\n\xe4\r\n", options=["BODY=8BITMIME"])
    line = world.sinks["outside.test"].mails[0].mail_line
    assert "BODY=8BITMIME" in line and "SIZE=" in line


def test_8bit_to_a_server_without_8bitmime(world):
    """Not converted, not sent as it is: returned (5.6.3)."""
    world.clear()
    id = world.gateway.send("a@inside.test", "b@seven.test", b"Subject: x\r\n\r\n\xe4\r\n",
                            options=["BODY=8BITMIME"])
    world.gateway.wait_event(id, "bounced")
    assert world.last(id, "bounced")["failure"] == "eight_bit"
    assert not world.sinks["seven.test"].mails
    exact(world, b"Subject: x\r\n\r\nseven\r\n", to="b@seven.test", options=["BODY=8BITMIME"])


def test_partly_refused(world):
    """One recipient refused, one put off, one taken: each goes its own way, none twice."""
    sink = world.sinks["outside.test"]
    world.clear()

    def by_name(session):
        last = sink.commands[-1]
        return "550 5.1.1 unknown" if "<no@" in last else "450 4.2.0 busy" if "<later@" in last else None
    sink.script["RCPT"] = by_name
    try:
        id = world.send("a@inside.test", ["yes@outside.test", "no@outside.test",
                                          "later@outside.test"], "partly", "hello")
        world.gateway.wait_event(id, "delayed")
        events = {e["recipient"]: e["event"] for e in world.gateway.trace(id)
                  if e["id"] == id and e["event"] in ("delivered", "bounced", "delayed")}
        assert events == {"yes@outside.test": "delivered", "no@outside.test": "bounced",
                          "later@outside.test": "delayed"}
    finally:
        del sink.script["RCPT"]
    wait_for(lambda: not world.gateway.queue("--id", id)[0]["active"], 10, "idle")
    world.gateway.ctl("queue", "retry", id, "--yes")
    world.gateway.wait_event(id, "done")
    assert [m.rcpts for m in sink.mails] == [["yes@outside.test"], ["later@outside.test"]]
    report = world.sinks["inside.test"].wait(1, match=lambda m: b"no@outside.test" in m.data)[0]
    assert b"later@outside.test" not in report.data.split(b"message/delivery-status")[1].split(
        b"--")[0]


def test_mx_fallback(world):
    """The first MX is dead, the second takes it; an implicit MX (A only) works."""
    world.clear()
    world.dns.records[("two.test", "MX")] = ["10 dead.two.test.", "20 mx.outside.test."]
    world.dns.records[("dead.two.test", "A")] = ["127.0.0.250"]
    world.dns.records[("implicit.test", "A")] = [world.sinks["other.test"].ip]
    id = world.send("a@inside.test", "b@two.test", "fallback", "hi")
    world.gateway.wait_event(id, "delivered")
    assert world.sinks["outside.test"].mails[0].rcpts == ["b@two.test"]
    id = world.send("a@inside.test", "b@implicit.test", "implicit", "hi")
    world.gateway.wait_event(id, "delivered")
    assert world.sinks["other.test"].mails[0].rcpts == ["b@implicit.test"]


def test_hangup_behind_the_dot_is_retried_not_lost(world):
    sink = world.sinks["other.test"]
    world.clear()
    sink.script["BODY"] = "close"
    try:
        id = world.send("a@inside.test", "b@other.test", "hangup", "hi")
        world.gateway.wait_event(id, "delayed")
    finally:
        del sink.script["BODY"]
    wait_for(lambda: not world.gateway.queue("--id", id)[0]["active"], 10, "idle")
    world.gateway.ctl("queue", "retry", id, "--yes")
    world.gateway.wait_event(id, "delivered")
    assert len(sink.mails) == 1


def test_421_in_data_is_retried(world):
    sink = world.sinks["other.test"]
    world.clear()
    sink.script["DATA"] = "421 4.3.2 going down"
    try:
        id = world.send("a@inside.test", "b@other.test", "shutdown", "hi")
        world.gateway.wait_event(id, "delayed")
    finally:
        del sink.script["DATA"]
    world.drop_all()
    assert not sink.mails


# ---- routes (Q14) ----

def routes(world, text):
    world.deploy({"routes.conf": text + "\n[route default]\ndeliver = mx\nport = %d\n" % world.port,
                  "groups/domain/special.txt": "special.test\n"})


def test_smart_host_forms(world):
    """A host name with MX look-up on and off, and an address."""
    port = world.port
    outside, other = world.sinks["outside.test"], world.sinks["other.test"]
    world.dns.records[("hub.test", "MX")] = ["10 mx.outside.test."]
    world.dns.records[("hub.test", "A")] = [other.ip]
    for server, sink in (("hub.test:%d mx=yes" % port, outside), ("hub.test:%d" % port, other),
                         ("%s:%d" % (outside.ip, port), outside)):
        world.clear()
        routes(world, "[route special]\ngroup = special\ndeliver = servers\nserver = " + server)
        id = world.send("a@inside.test", "b@special.test", "smart", "hi")
        world.gateway.wait_event(id, "delivered")
        assert len(sink.mails) == 1, server


def test_round_robin_and_preference(world):
    port = world.port
    outside, other = world.sinks["outside.test"], world.sinks["other.test"]
    world.clear()
    equal = "server = %s:%d preference=5\n"
    routes(world, "[route special]\ngroup = special\ndeliver = servers\n" +
           equal % (outside.ip, port) + equal % (other.ip, port))
    for i in range(8):
        id = world.send("a@inside.test", "b@special.test", "robin %d" % i, "hi")
        world.gateway.wait_event(id, "delivered")
    assert (len(outside.mails), len(other.mails)) == (4, 4)
    world.clear()
    routes(world, "[route special]\ngroup = special\ndeliver = servers\n"
           "server = %s:%d preference=9\nserver = %s:%d preference=1\n"
           % (outside.ip, port, other.ip, port))
    for i in range(2):
        id = world.send("a@inside.test", "b@special.test", "first %d" % i, "hi")
        world.gateway.wait_event(id, "delivered")
    assert (len(outside.mails), len(other.mails)) == (0, 2)
    world.deploy()
