"""Clients that others wrote: swaks, openssl s_client and Python's smtplib against each listener."""
import email.message
import re
import smtplib
import ssl
import subprocess

import pytest
from postseal_lab.gateway import mail

STRANGER = "127.0.0.9"
USER, PASSWORD = "alice@inside.test", "correct horse battery staple"


@pytest.fixture(scope="module")
def world(new_world):
    w = new_world()
    w.partner("inside.test")
    w.partner("outside.test")
    w.gateway.start(60)
    hash = w.gateway.ctl("password", "hash", input=PASSWORD + "\n").stdout.strip()
    w.submitters = {"submitters.conf": "[submitter %s]\nhash = %s\n" % (USER, hash)}
    w.deploy(w.submitters)
    return w


# ---- swaks ----

def swaks(world, kind, *options, to="bob@inside.test", sender="carol@outside.test"):
    """(exit status, transcript)"""
    r = subprocess.run(
        ["swaks", "--server", "127.0.0.1", "--port", str(world.gateway.ports[kind]),
         "--local-interface", STRANGER, "--helo", "client.lab.test", "--timeout", "20s",
         "--from", sender, "--to", to, *options],
        capture_output=True, text=True, timeout=60, check=False)
    return r.returncode, r.stdout + r.stderr


def queued(transcript):
    return re.search(r"queued as (\S+)", transcript).group(1)


@pytest.mark.parametrize("options,how", [
    ("", "ESMTP"), ("--tls", "ESMTPS"), ("--pipeline", "ESMTP"), ("--tls --pipeline", "ESMTPS"),
    ("--protocol SMTP", "SMTP"),
])
def test_swaks_delivers(world, options, how):
    world.clear()
    status, text = swaks(world, "smtp", *options.split(), "--header", "Subject: swaks",
                         "--body", "dot\n.\nx")
    assert status == 0, text
    m = world.sinks["inside.test"].wait(1)[0]
    assert m.rcpts == ["bob@inside.test"] and b"dot\r\n.\r\nx" in m.data
    assert re.search(r"with %s id %s" % (how, queued(text)), m.data.decode()), m.data


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("kind,tls", [("submission", "--tls"), ("submissions", "--tls-on-connect")])
@pytest.mark.parametrize("pipeline", [False, True])
def test_swaks_submits(world, kind, tls, mechanism, pipeline):
    world.clear()
    more = ["--pipeline"] if pipeline else []
    status, text = swaks(world, kind, tls, "--auth", mechanism, "--auth-user", USER,
                         "--auth-password", PASSWORD, *more, to="dave@outside.test", sender=USER)
    assert status == 0, text
    m = world.sinks["outside.test"].wait(1)[0]
    assert re.search(r"with ESMTPSA id " + queued(text), m.data.decode()), m.data


def test_swaks_wrong_password(world):
    status, text = swaks(world, "submission", "--tls", "--auth", "PLAIN", "--auth-user", USER,
                         "--auth-password", "wrong", to="dave@outside.test", sender=USER)
    assert status == 28 and " 535 5.7.8" in text, text


def test_swaks_must_not_log_in_in_clear(world):
    status, text = swaks(world, "submission", "--auth", "PLAIN", "--auth-user", USER,
                         "--auth-password", PASSWORD, to="dave@outside.test", sender=USER)
    assert status == 28 and "AUTH PLAIN" not in text, text


def test_swaks_is_no_relay(world):
    for options in ([], ["--tls"], ["--pipeline"]):
        status, text = swaks(world, "smtp", *options, to="dave@outside.test")
        assert status != 0 and "550 5.7.1" in text, text


# ---- openssl s_client ----

def s_client(world, *options, kind="smtp", say="QUIT\r\n", keep=True):
    """Transcript of a session; say is sent once TLS stands."""
    where = ["-connect", "127.0.0.1:%d" % world.gateway.ports[kind]]
    if kind != "submissions":
        where += ["-starttls", "smtp"]
    r = subprocess.run(["openssl", "s_client", *where, *(["-ign_eof"] if keep else []), *options],
                       input=say.encode(), capture_output=True, timeout=30, check=False)
    return (r.stdout + r.stderr).decode(errors="replace")


def shaken(text):
    """The handshake went well and SMTP goes on inside."""
    return bool(re.search(r"^New, TLSv|^Reused, TLSv", text, re.M)) and "221 2.0.0" in text


KINDS = ("smtp", "submission", "submissions")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_versions_taken(world, kind, version):
    text = s_client(world, version, kind=kind)
    assert shaken(text), text
    assert re.search(r"Cipher is (ECDHE|TLS)_?\S*(GCM|CHACHA|POLY)", text), text
    assert "Compression: NONE" in text and "Server Temp Key: X25519" in text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_versions_refused(world, kind, version):
    text = s_client(world, version, "-cipher", "ALL:@SECLEVEL=0", kind=kind)
    assert not shaken(text) and "alert protocol version" in text, text


@pytest.mark.parametrize("cipher", ["aNULL", "eNULL", "AES128-SHA", "ECDHE-RSA-AES128-SHA", "DHE"])
def test_weak_ciphers(world, cipher):
    """Nothing without authentication or encryption; without forward secrecy or AEAD only by setting."""
    text = s_client(world, "-tls1_2", "-cipher", cipher + ":@SECLEVEL=0")
    if cipher in ("aNULL", "eNULL"):
        assert not shaken(text), text
    elif shaken(text):
        assert not re.search(r"Cipher is .*(NULL|RC4|3DES|DES|EXP|MD5)", text), text


@pytest.mark.parametrize("options,kind", [
    (("-tls1_3",), "ECDSA"), (("-tls1_2",), "ECDSA"),
    (("-tls1_3", "-sigalgs", "RSA-PSS+SHA256"), "RSA-PSS"),
    (("-tls1_2", "-cipher", "ECDHE-RSA-AES256-GCM-SHA384"), "RSA"),
    (("-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"), "ECDSA"),
])
def test_both_certificates(world, options, kind):
    text = s_client(world, *options)
    assert shaken(text), text
    assert re.search(r"^Peer signature type: %s" % kind, text, re.M), text


def test_rsa_first_when_preferred(world):
    world.deploy(world.submitters, tls__prefer_rsa="yes")
    try:
        text = s_client(world, "-tls1_3")
        assert "Peer signature type: RSA-PSS" in text, text
        text = s_client(world, "-tls1_3", "-sigalgs", "ECDSA+SHA256")
        assert "Peer signature type: ECDSA" in text, text
    finally:
        world.deploy(world.submitters, tls__prefer_rsa="no")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_resumption_by_ticket(world, tmp_path, kind, version):
    ticket = str(tmp_path / "ticket")
    first = s_client(world, version, "-sess_out", ticket, kind=kind)
    assert shaken(first) and "TLS session ticket" in first, first
    second = s_client(world, version, "-sess_in", ticket, kind=kind)
    assert shaken(second) and re.search(r"^Reused, TLSv", second, re.M), second


def test_forged_ticket_is_a_full_handshake(world, tmp_path):
    ticket = tmp_path / "ticket"
    assert shaken(s_client(world, "-tls1_2", "-sess_out", str(ticket)))
    der = bytearray(ssl.PEM_cert_to_DER_cert(ticket.read_text().replace(
        "SSL SESSION PARAMETERS", "CERTIFICATE")))
    at = der.rindex(b"\xaa\x81")   # [10], the ticket: its last bytes are the check
    length = der[at + 2]
    der[at + 2 + length] ^= 1
    ticket.write_text(ssl.DER_cert_to_PEM_cert(bytes(der)).replace(
        "CERTIFICATE", "SSL SESSION PARAMETERS"))
    text = s_client(world, "-tls1_2", "-sess_in", str(ticket))
    assert shaken(text) and re.search(r"^New, TLSv", text, re.M), text


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("offer,chosen", [
    (None, "No ALPN negotiated"), ("smtp", "ALPN protocol: smtp"),
    ("http/1.1,smtp", "ALPN protocol: smtp"), ("http/1.1", None), ("imap,h2", None),
])
def test_alpn(world, version, offer, chosen):
    """ALPACA: who asks for another protocol is sent away (RFC 7301 3.2)."""
    text = s_client(world, version, *(["-alpn", offer] if offer else []))
    if chosen:
        assert shaken(text) and chosen in text, text
    else:
        assert not shaken(text) and "alert no application protocol" in text, text


@pytest.mark.parametrize("name", ["gateway.lab.test", "unknown.example", "a" * 63 + ".example", "x"])
def test_any_server_name(world, name):
    text = s_client(world, "-servername", name)
    assert shaken(text), text
    assert shaken(s_client(world, "-noservername"))


def test_no_renegotiation_by_the_client(world):
    text = s_client(world, "-tls1_2", say="R\n", keep=False)
    assert "no renegotiation" in text or "alert" in text, text


# ---- smtplib ----

def context():
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
    return c


def test_smtplib_message_with_attachment(world):
    world.clear()
    m = email.message.EmailMessage()
    m["From"], m["To"], m["Subject"] = "carol@outside.test", "bob@inside.test", "Grüße"
    m.set_content("Text\n.\n..\n")
    data = bytes(range(256)) * 400
    m.add_attachment(data, maintype="application", subtype="octet-stream", filename="a.bin")
    with smtplib.SMTP("127.0.0.1", world.gateway.ports["smtp"], timeout=30,
                      source_address=(STRANGER, 0)) as c:
        c.starttls(context=context())
        assert c.send_message(m, mail_options=["BODY=8BITMIME"]) == {}
    got = email.message_from_bytes(world.sinks["inside.test"].wait(1)[0].data,
                                   policy=email.policy.default)
    assert got["Subject"] == "Grüße"
    assert got.get_body().get_content() == "Text\r\n.\r\n..\r\n"
    assert next(got.iter_attachments()).get_content() == data


def test_smtplib_some_recipients_refused(world):
    world.clear()
    to = ["bob@inside.test", "x@outside.test", "eve@inside.test"]
    with smtplib.SMTP("127.0.0.1", world.gateway.ports["smtp"], timeout=30,
                      source_address=(STRANGER, 0)) as c:
        refused = c.sendmail("carol@outside.test", to,
                             mail("carol@outside.test", to[0], "some", "x"))
    assert list(refused) == ["x@outside.test"] and refused["x@outside.test"][0] == 550
    got = world.sinks["inside.test"].wait(1)
    assert sorted(r for m in got for r in m.rcpts) == ["bob@inside.test", "eve@inside.test"]


@pytest.mark.parametrize("kind", ["submission", "submissions"])
def test_smtplib_login(world, kind):
    world.clear()
    with world.gateway.client(kind, source=STRANGER) as c:
        c.login(USER, PASSWORD)
        assert c.sendmail(USER, ["dave@outside.test"], mail(USER, "dave@outside.test", kind, "x")) == {}
        c.rset()
        assert c.verify("dave@outside.test")[0] == 252
        assert c.noop()[0] == 250
    assert world.sinks["outside.test"].wait(1)[0].tls


def test_daemon_is_well(world):
    log = world.gateway.log_text()
    assert "Sanitizer" not in log and "ended by signal" not in log, log[-3000:]
    world.gateway.stop()
    assert world.gateway.process.returncode == 0
