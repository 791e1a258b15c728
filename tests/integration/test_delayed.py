"""Delayed queue, retry, expiry and reports (spec F1-F3, A6, A9, Q1, Q5, Q6; RFC 3461, 3464)."""
import datetime
import email
import email.policy

import pytest
from conftest import CARD
from postseal_lab.gateway import wait_for

SECRET_SUBJECT = "Very secret merger of Acme"
SECRET_BODY = "confidential-words-of-the-body card " + CARD
PLAIN_BODY = "ordinary-words-of-the-body"
NO_DSN = ("PIPELINING", "SIZE 52428800", "8BITMIME", "ENHANCEDSTATUSCODES")


class Report:
    """A report as its receiver sees it."""

    def __init__(self, mail):
        self.mail = mail
        self.raw = mail.data
        self.message = email.message_from_bytes(mail.data, policy=email.policy.default)
        self.subject = self.message["Subject"]
        self.parts = list(self.message.iter_parts()) if self.message.is_multipart() else []
        self.text = self.parts[0].get_content() if self.parts else self.message.get_content()
        self.fields = []  # [per message, per recipient ...]
        if len(self.parts) > 1:
            self.fields = [dict((k.lower(), v) for k, v in block.items())
                           for block in self.parts[1].get_payload()]
        self.original = self.parts[2] if len(self.parts) > 2 else None

    def check_form(self):
        assert self.message.get_content_type() == "multipart/report"
        assert self.message.get_param("report-type") == "delivery-status"
        assert self.parts[1].get_content_type() == "message/delivery-status"
        assert self.message["Auto-Submitted"] in ("auto-replied", "auto-generated")
        assert self.mail.sender == "", "a report has the null sender"
        assert self.fields[0]["reporting-mta"].startswith("dns;")
        for r in self.fields[1:]:
            assert r["final-recipient"].startswith("rfc822;")
            assert r["action"] in ("failed", "delayed", "delivered", "relayed")
            assert r["status"].count(".") == 2
        return self


def reports_about(world, recipient, home="inside.test"):
    """Reports at the sender's home whose status part names the recipient."""
    found = []
    for m in world.sinks[home].mails:
        if recipient.encode() in m.data and b"multipart/report" in m.data:
            found.append(Report(m))
    return found


def wait_report(world, recipient, n=1, timeout=20, home="inside.test"):
    wait_for(lambda: len(reports_about(world, recipient, home)) >= n, timeout,
             "%d reports about %s" % (n, recipient))
    return reports_about(world, recipient, home)[0].check_form()


def partners(w):
    w.partner("inside.test")
    w.partner("good.test")
    w.partner("none.test", tls="none", cert="none")
    w.partner("later.test", script={"RCPT": "451 4.2.1 mailbox is busy"})
    w.partner("perm.test", script={"RCPT": "550 5.1.1 no such user here"})
    w.partner("nodsn.test", extensions=NO_DSN)
    w.partner("old.test", extensions=())
    w.partner("refuses.test", script={"MAIL": "550 5.7.1 we take no bounces"})
    w.partner("clearhome.test", tls="none", cert="none")


@pytest.fixture(scope="module")
def world(new_world):
    """Retry period of one minute."""
    w = new_world()
    partners(w)
    return w.start(delivery__retry_interval_min=1, delivery__max_retry_min=1,
                   delivery__ndr_failure_address="ops@inside.test",
                   general__sender_address="")


@pytest.fixture(scope="module")
def slow(new_world):
    """Long retry period, warning after a minute."""
    w = new_world()
    partners(w)
    return w.start(delivery__delay_warning_min=1, delivery__retry_interval_min=15)


@pytest.fixture(scope="module")
def sent(world, slow):
    """Everything that must wait a minute, sent at once; each retried several times meanwhile."""
    def card(w, sender, to, **options):
        return w.send(sender, to, SECRET_SUBJECT, SECRET_BODY, **options)

    def plain(w, sender, to, subject="Harmless", **options):
        return w.send(sender, to, subject, PLAIN_BODY, **options)
    ids = {
        "sealed": card(world, "alice@inside.test", "x1@none.test"),
        "plain": plain(world, "alice@inside.test", "x2@later.test"),
        "never": plain(world, "alice@inside.test", "x3@later.test",
                       rcpt_options=["NOTIFY=NEVER"]),
        "null": plain(world, "", "x4@later.test"),
        "failure": plain(world, "alice@inside.test", "x5@later.test",
                         rcpt_options=["NOTIFY=FAILURE"]),
        "delay-only": plain(world, "alice@inside.test", "x6@later.test",
                            rcpt_options=["NOTIFY=DELAY"]),
        "no-home": plain(world, "mallory@refuses.test", "x7@perm.test"),
        "sealed-no-tls-home": card(world, "carol@clearhome.test", "x8@perm.test"),
    }
    slow_ids = {
        "warn": plain(slow, "alice@inside.test", "w1@later.test"),
        "warn-sealed": card(slow, "alice@inside.test", "w2@none.test"),
        "warn-never": plain(slow, "alice@inside.test", "w3@later.test",
                            rcpt_options=["NOTIFY=NEVER"]),
        "warn-failure": plain(slow, "alice@inside.test", "w4@later.test",
                              rcpt_options=["NOTIFY=FAILURE"]),
        "warn-delay": plain(slow, "alice@inside.test", "w5@later.test",
                            rcpt_options=["NOTIFY=DELAY"]),
    }
    for w, some in ((world, ("sealed", "plain", "never", "null")), (slow, slow_ids)):
        for name in some:
            w.gateway.wait_event((ids if w is world else slow_ids)[name], "delayed")
    for _ in range(3):  # A9, Q5: the whole chain again, and again no clear text
        before = world.sinks["none.test"].connections
        world.gateway.ctl("queue", "retry", ids["sealed"], "--yes")
        wait_for(lambda: world.sinks["none.test"].connections > before, 10, "retried connection")
        wait_for(lambda: not world.gateway.queue("--id", ids["sealed"])[0]["active"], 10, "idle")
    return ids, slow_ids


@pytest.fixture(scope="module")
def expired(world, sent):
    ids = sent[0]
    for name in ("sealed", "plain", "never", "null", "failure", "delay-only"):
        world.gateway.wait_event(ids[name], "expired", 90)
    wait_for(lambda: not world.gateway.queue(), 30, "empty queue")
    return ids


# ---- at once ----

def test_permanent_failure_with_all_dsn_parameters(world):
    world.send("alice@inside.test", "p1@perm.test", "About p1", PLAIN_BODY,
               options=["RET=FULL", "ENVID=QQ314159"],
               rcpt_options=["NOTIFY=FAILURE,DELAY", "ORCPT=rfc822;p1+2Bx@perm.test"])
    r = wait_report(world, "p1@perm.test")
    assert r.fields[0]["original-envelope-id"] == "QQ314159"
    f = r.fields[1]
    assert f["original-recipient"].replace(" ", "") in ("rfc822;p1+2Bx@perm.test",
                                                        "rfc822;p1+x@perm.test")
    assert (f["action"], f["status"]) == ("failed", "5.1.1")
    assert "no such user here" in f["diagnostic-code"]
    assert "mx.perm.test" in f["remote-mta"]
    assert r.original.get_content_type() == "message/rfc822"
    assert PLAIN_BODY.encode() in r.raw, "RET=FULL returns the message"
    assert "About p1" in r.raw.decode()


def test_ret_hdrs(world):
    world.send("alice@inside.test", "p2@perm.test", "About p2", PLAIN_BODY, options=["RET=HDRS"])
    r = wait_report(world, "p2@perm.test")
    assert r.original.get_content_type() == "text/rfc822-headers"
    assert PLAIN_BODY.encode() not in r.raw
    assert b"Subject: About p2" in r.raw


def test_permanent_failure_of_encrypt_marked_is_sealed(world):
    world.send("alice@inside.test", "p3@perm.test", SECRET_SUBJECT, SECRET_BODY,
               options=["RET=FULL"])
    check_sealed(wait_report(world, "p3@perm.test"))


def test_notify_never_and_null_sender_at_once(world):
    for to, sender, options in (("p4@perm.test", "alice@inside.test", ["NOTIFY=NEVER"]),
                                ("p5@perm.test", "", []),
                                ("p6@perm.test", "alice@inside.test", ["NOTIFY=SUCCESS"])):
        id = world.send(sender, to, "x", PLAIN_BODY, rcpt_options=options)
        world.gateway.wait_event(id, "bounced")
        world.gateway.wait_event(id, "done")
        assert not reports_about(world, to)
        assert not [e for e in world.gateway.trace(id) if e["event"] == "dsn"]


def test_notify_success_relayed(world):
    """The next hop has no DSN: we say "relayed"."""
    world.send("alice@inside.test", "s1@nodsn.test", "About s1", PLAIN_BODY,
               options=["ENVID=E1"], rcpt_options=["NOTIFY=SUCCESS", "ORCPT=rfc822;s1@old.test"])
    r = wait_report(world, "s1@nodsn.test")
    assert r.fields[1]["action"] == "relayed" and r.fields[1]["status"].startswith("2.")
    assert r.fields[0]["original-envelope-id"] == "E1"
    assert PLAIN_BODY.encode() not in r.raw, "a success report returns headers only"
    m = world.sinks["nodsn.test"].wait(1)[0]
    assert "ENVID" not in m.mail_line and "RET" not in m.mail_line


def test_notify_success_passed_on(world):
    """The next hop has DSN: the request is handed on, no report from us."""
    sink = world.sinks["good.test"]
    id = world.send("alice@inside.test", "s2@good.test", "About s2", PLAIN_BODY,
                    options=["RET=HDRS", "ENVID=E2"],
                    rcpt_options=["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;s2@old.test"])
    world.gateway.wait_event(id, "done")
    line = [c for c in sink.commands if c.startswith("RCPT TO:<s2@")][0]
    assert "NOTIFY=SUCCESS,FAILURE" in line and "ORCPT=rfc822;s2@old.test" in line
    line = [c for c in sink.commands if "ENVID=E2" in c][0]
    assert "RET=HDRS" in line
    assert not [e for e in world.gateway.trace(id) if e["event"] == "dsn"]
    assert not reports_about(world, "s2@good.test")


def test_report_to_a_server_without_8bitmime(world):
    """A report of ASCII is labelled so, and arrives anywhere."""
    world.send("dora@old.test", "p9@perm.test", "About p9", PLAIN_BODY)
    wait_report(world, "p9@perm.test", home="old.test")


def test_unknown_domain_bounces(world):
    id = world.send("alice@inside.test", "u@no-such-domain.test", "x", PLAIN_BODY)
    world.gateway.wait_event(id, "bounced")
    r = wait_report(world, "u@no-such-domain.test")
    assert r.fields[1]["status"] in ("5.1.2", "5.4.4")


def test_null_mx_bounces(world):
    world.dns.records[("nullmx.test", "MX")] = ["0 ."]
    id = world.send("alice@inside.test", "u@nullmx.test", "x", PLAIN_BODY)
    world.gateway.wait_event(id, "bounced")
    r = wait_report(world, "u@nullmx.test")
    assert r.fields[1]["status"] in ("5.1.10", "5.1.2")


def test_dead_dns_delays(world):
    world.dns.servfail.add("servfail.test")
    id = world.send("alice@inside.test", "u@servfail.test", "x", PLAIN_BODY)
    world.gateway.wait_event(id, "delayed")
    assert world.last(id, "delayed")["failure"] == "dns_temporary"
    world.gateway.ctl("queue", "drop", id, "--yes")


def test_size_of_peer(world):
    """A peer whose SIZE is too small: 5.3.4 without sending."""
    w = world
    if "small.test" not in w.sinks:
        w.partner("small.test", extensions=("SIZE 1000", "8BITMIME"))
    id = w.send("alice@inside.test", "u@small.test", "x", "long line\n" * 400)
    w.gateway.wait_event(id, "bounced")
    assert w.last(id, "bounced")["failure"] == "size"
    assert not w.sinks["small.test"].mails


def test_report_that_cannot_be_delivered_is_told_once(world, sent):
    """Q6, F3: the report's receiver refuses it: one notice to the notification address, no loop."""
    inside = world.sinks["inside.test"]
    notices = inside.wait(1, match=lambda m: m.rcpts == ["ops@inside.test"]
                          and b"mallory@refuses.test" in m.data)
    assert len(notices) == 1
    assert notices[0].sender == ""
    assert Report(notices[0]).message["Subject"]
    refused = [c for c in world.sinks["refuses.test"].commands if c.startswith("MAIL FROM:<>")]
    assert len(refused) == 1


# ---- the end of the period ----

def check_sealed(r):
    assert SECRET_SUBJECT.encode() not in r.raw
    assert b"confidential-words" not in r.raw and CARD.encode() not in r.raw
    assert b"4111" not in r.raw
    kept = {k.lower() for k in r.original.get_payload(0).keys()} \
        if r.original.get_content_type() == "message/rfc822" else \
        {x.split(":")[0].lower() for x in r.original.get_content().splitlines() if ":" in x}
    assert kept <= {"from", "to", "date", "message-id", "subject"}, kept
    assert r.mail.tls, "the report obeys the TLS rule of the message"


def test_expired_sealed_report(world, expired):
    """Exactly one report; it says that TLS was required and what failed; it leaks nothing."""
    found = reports_about(world, "x1@none.test")
    assert len(found) == 1
    r = found[0].check_form()
    assert "TLS" in r.text and "requir" in r.text.lower(), r.text
    assert "STARTTLS" in r.text, r.text
    assert r.fields[1]["action"] == "failed"
    assert r.fields[1]["status"].startswith("5.7.") or r.fields[1]["status"] == "4.4.7"
    check_sealed(r)
    assert not world.sinks["none.test"].saw("MAIL"), "never in clear, also after retries"
    events = [e for e in world.gateway.trace(expired["sealed"]) if e["event"] == "delayed"]
    assert len(events) >= 4, "first attempt and three retries"
    assert all(e["detail"]["failure"] == "tls_not_offered" for e in events)


def test_expired_plain_report(world, expired):
    found = reports_about(world, "x2@later.test")
    assert len(found) == 1
    r = found[0].check_form()
    assert r.fields[1]["action"] == "failed"
    assert "mailbox is busy" in r.fields[1]["diagnostic-code"]
    assert "period" in r.text or "gave up" in r.text, r.text
    assert b"Subject: Harmless" in r.raw


def test_expired_without_report(world, expired):
    for name, to in (("never", "x3@later.test"), ("null", "x4@later.test"),
                     ("delay-only", "x6@later.test")):
        assert not reports_about(world, to), name
        assert not [e for e in world.gateway.trace(expired[name]) if e["event"] == "dsn"], name


def test_expired_notify_failure(world, expired):
    assert len(reports_about(world, "x5@later.test")) == 1


def test_sealed_report_never_goes_out_in_clear(world, expired):
    """The sender's own server has no TLS: the sealed report waits, then ops is told."""
    home = world.sinks["clearhome.test"]
    assert not home.saw("MAIL")
    notices = [m for m in world.sinks["inside.test"].mails
               if m.rcpts == ["ops@inside.test"] and b"carol@clearhome.test" in m.data]
    assert len(notices) == 1
    assert SECRET_SUBJECT.encode() not in notices[0].data
    assert b"confidential-words" not in notices[0].data and b"4111" not in notices[0].data
    assert notices[0].tls


def test_no_loops(world, expired):
    """Everything above ended: queue empty, one notice for each lost report."""
    assert world.gateway.queue() == []
    notices = [m for m in world.sinks["inside.test"].mails if m.rcpts == ["ops@inside.test"]]
    assert len(notices) == 2


def test_delay_warning(slow, sent):
    ids = sent[1]
    first = slow.gateway.queue("--id", ids["warn"])[0]["received"]

    def a_minute_later():
        then = datetime.datetime.fromisoformat(first.replace("Z", "+00:00"))
        return (datetime.datetime.now(datetime.timezone.utc) - then).total_seconds() > 61
    wait_for(a_minute_later, 70, "minute")
    slow.gateway.ctl("queue", "retry", "--queue", "delayed", "--yes")
    r = wait_report(slow, "w1@later.test")
    assert r.fields[1]["action"] == "delayed" and r.fields[1]["status"].startswith("4.")
    assert "will-retry-until" in r.fields[1]
    assert PLAIN_BODY.encode() not in r.raw, "a warning returns headers only"
    check_sealed(wait_report(slow, "w2@none.test"))
    wait_report(slow, "w5@later.test")
    for to in ("w3@later.test", "w4@later.test"):
        assert not reports_about(slow, to)
    before = len(slow.sinks["later.test"].commands)
    slow.gateway.ctl("queue", "retry", "--queue", "delayed", "--yes")
    wait_for(lambda: any("w1@" in c for c in slow.sinks["later.test"].commands[before:]), 10,
             "second retry")
    wait_for(lambda: not any(m["active"] for m in slow.gateway.queue()), 10, "idle queue")
    assert len(reports_about(slow, "w1@later.test")) == 1, "one warning"
