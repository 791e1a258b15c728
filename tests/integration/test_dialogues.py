"""The dialogue files over real sockets: against our daemon, and against Postfix to check what they expect.

A file whose configuration a server cannot have is left out by run.py and never counts as passed; the
numbers of files that must have been played are asserted.
"""
import pathlib
import re
import subprocess
import sys

import pytest
from postseal_lab.ca import CA
from postseal_lab.gateway import free_port
from postseal_lab.peers import AuthServer, Postfix

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "dialogue"
PLAYED_MIN = 30   # files on port 25, of our daemon and of Postfix


def play(ip, port, *files, name=None, settings=(), split=False):
    """Plays files (all, when none is named); returns those that passed, fails when one failed."""
    command = [sys.executable, str(FOLDER / "run.py")]
    command += ["--as", name] if name else []
    for s in settings:
        command += ["--set", s]
    command += ["--split"] if split else []
    command += [ip, str(port)] + [str(FOLDER / (f + ".smtp")) for f in files]
    r = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    passed = re.findall(r"^passed +(\S+)\.smtp$", r.stdout, re.M)
    assert r.returncode == 0, "\n".join(
        line for line in (r.stdout + r.stderr).splitlines()
        if not line.startswith(("passed", "left out")))
    if files:
        assert set(passed) == set(files), r.stdout
    return passed


# ---- our daemon ----

@pytest.fixture(scope="module")
def world(new_world):
    w = new_world()
    w.partner("example.com")
    w.partner("example.org")   # reports go there
    w.gateway.start(60)
    hash = w.gateway.ctl("password", "hash", input="secret\n").stdout.strip()
    w.submitters = {"submitters.conf": "[submitter alice]\nhash = %s\n" % hash}
    return w


def deploy(world, **keys):
    """The configuration that the dialogues take for granted; nobody is trusted."""
    keys.setdefault("conn__max_errors", 20)
    keys.setdefault("conn__messages", 1000)
    keys.setdefault("msg__max_recipients", 1000)
    keys.setdefault("tls__offer", "yes")
    keys.setdefault("submission__require_tls", "yes")
    world.deploy(world.submitters, trusted=("192.0.2.1",), protected=("example.com",),
                 general__fqdn="mx.example.com", **keys)


@pytest.mark.parametrize("split", [False, True])
def test_mx(world, split):
    """Port 25 has no AUTH; what needs it is played on the submission ports."""
    deploy(world)
    passed = play("127.0.0.1", world.gateway.ports["smtp"], settings=["auth=no"], split=split)
    assert len(passed) >= PLAYED_MIN, passed
    assert {"auth-off", "pipelining", "smuggling-20", "starttls"} <= set(passed)


CONFIGURED = [
    ("starttls-not-offered", "tls=no", {"tls__offer": "no"}),
    ("too-many-errors", "max-errors=3", {"conn__max_errors": 3}),
    ("too-many-messages", "max-messages=1", {"conn__messages": 1}),
    ("too-many-rcpts", "max-rcpts=2", {"msg__max_recipients": 2}),
]


@pytest.mark.parametrize("file,claim,keys", CONFIGURED)
def test_mx_configured(world, file, claim, keys):
    deploy(world, **keys)
    play("127.0.0.1", world.gateway.ports["smtp"], file, settings=["auth=no", claim])


# What needs AUTH but sends no mail before it: the submission ports refuse that.
AUTH_FILES = ("auth-edge", "auth-failures", "auth-limits", "auth-login", "auth-malformed",
              "auth-plain", "auth-plain-authzid", "starttls-auth")


@pytest.mark.parametrize("split", [False, True])
def test_submission(world, split):
    deploy(world)
    play("127.0.0.1", world.gateway.ports["submission"], *AUTH_FILES, split=split)


def test_submission_in_clear(world):
    deploy(world, submission__require_tls="no")
    play("127.0.0.1", world.gateway.ports["submission"], "auth-in-clear")


def test_submission_without_tls_demands_login(world):
    deploy(world, submission__require_tls="no")
    play("127.0.0.1", world.gateway.ports["submission"], "require-auth",
         settings=["require-auth=yes"])


def test_submissions(world):
    deploy(world)
    play("127.0.0.1", world.gateway.ports["submissions"], "implicit-tls",
         settings=["implicit-tls=yes"])


NOT_OURS = {   # played in memory only, since no listener of the daemon is like that
    "auth-in-transaction": "AUTH where MAIL needs none",
    "auth-login-wrong": "AUTH where MAIL needs none",
    "policy": "addresses refused by a driver of the test",
    "require-tls": "TLS demanded without AUTH",
    "session-declared": "limits are whole KiB", "session-size": "limits are whole KiB",
    "size-declared": "limits are whole KiB",
    "size-exceeded": "limits are whole KiB",
}


def test_no_file_is_forgotten():
    listed = subprocess.run([sys.executable, str(FOLDER / "run.py"), "--list", "--set", "auth=no"],
                            capture_output=True, text=True, timeout=60, check=True).stdout
    played = set(re.findall(r"^play +(\S+)\.smtp$", listed, re.M)) | set(AUTH_FILES)
    played |= {file for file, _, _ in CONFIGURED}
    played |= {"auth-in-clear", "require-auth", "implicit-tls"}
    assert played | set(NOT_OURS) == {p.stem for p in FOLDER.glob("*.smtp")}
    assert not played & set(NOT_OURS)


def test_daemon_is_well(world):
    log = world.gateway.log_text()
    assert "Sanitizer" not in log and "signal" not in log, log[-3000:]
    world.gateway.stop()
    assert world.gateway.process.returncode == 0


# ---- Postfix ----

OPTIONS = {   # what a listener of its own is for, and the settings of master.cf
    "require-tls=yes": ["smtpd_tls_security_level=encrypt"],
    "implicit-tls=yes": ["smtpd_tls_wrappermode=yes"],
    "tls=no": ["smtpd_tls_security_level=none"],
    "auth=no": ["smtpd_sasl_auth_enable=no"],
    "max-size=1000": ["message_size_limit=1000"],
    "max-errors=3": ["smtpd_hard_error_limit=3"],
}
MAIN = """
mynetworks =
strict_rfc821_envelopes = yes
smtpd_helo_required = yes
smtpd_relay_restrictions = permit_sasl_authenticated, defer_unauth_destination
smtpd_tls_auth_only = yes
smtpd_discard_ehlo_keywords = chunking
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:127.0.0.1:%d
smtpd_error_sleep_time = 0
virtual_mailbox_maps = static:/peer/Maildir/
message_size_limit = 10485760
smtputf8_enable = yes
"""


@pytest.fixture(scope="module")
def postfix(tmp_path_factory):
    cert, key = CA(str(tmp_path_factory.mktemp("ca"))).issue("mx", ["mx.example.com"])
    ip = "127.0.0.80"
    auth = AuthServer({"alice": "secret"})
    free = set()
    while len(free) <= len(OPTIONS):
        free.add(free_port(ip))
    ports = {claim: free.pop() for claim in OPTIONS}
    server = Postfix(ip, "127.0.0.81", free.pop(), "example.com", cert, key, ("127.0.0.1", 9),
                     main=MAIN % auth.port,
                     listeners={p: ["-o " + o for o in OPTIONS[c]] for c, p in ports.items()})
    server.ports = ports
    with server:
        yield server
    auth.close()


@pytest.mark.parametrize("split", [False, True])
def test_postfix_agrees(postfix, split):
    passed = play(postfix.ip, postfix.port, name="postfix", split=split)
    assert len(passed) >= PLAYED_MIN, passed


@pytest.mark.parametrize("claim,file", [
    ("require-tls=yes", "require-tls"), ("implicit-tls=yes", "implicit-tls"),
    ("tls=no", "starttls-not-offered"), ("auth=no", "auth-off"), ("max-size=1000", "size-declared"),
    ("max-size=1000", "size-exceeded"), ("max-errors=3", "too-many-errors"),
])
def test_postfix_configured(postfix, claim, file):
    play(postfix.ip, postfix.ports[claim], file, name="postfix", settings=[claim])
