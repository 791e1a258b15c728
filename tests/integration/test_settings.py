"""Settings as files, the bootstrap file, and postsealctl."""
import filecmp
import json
import os
import random
import shutil
import subprocess

import pytest
from conftest import CARD
from postseal_lab.gateway import BUILD, mail, wait_for

PHRASES = "[phrase alpha]\ntext = Project Alpha\n\n[phrase beta]\ntext = strictly internal\n"
FULL = {
    "phrases.conf": PHRASES,
    "groups/domain/partners.txt": "good.test\n*.wild.test\n",
    "groups/domain/special.txt": "special.test\n",
    "groups/ip/office.txt": "192.0.2.0/24\n2001:db8::/32\n",
    "policies/alpha.conf": "[policy]\ndescription = First\ndirection = outbound, internal\n"
                           "destinations = partners\nsenders = @inside.test\n\n[rule a]\nmatch = any\n"
                           "condition = phrase:alpha at least 2 unique\n"
                           "condition = not size at least 5 kb\n"
                           "condition = file-name *.xls?\n"
                           "action = encrypt severity=low\n"
                           "action = quarantine severity=high from=3 encrypt-on-release\n",
    "submitters.conf": "[submitter bob@inside.test]\nhash = $argon2id$v=19$m=65536,t=2,p=1$"
                       "c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b+dWRWJTmaaJObG7bU0ciLXxlA\n",
}


@pytest.fixture(scope="module")
def world(new_world):
    w = new_world()
    w.partner("inside.test")
    w.partner("good.test")
    w.partner("none.test", tls="none", cert="none")
    return w.start()


def files_of(folder):
    out = {}
    for base, _, names in os.walk(folder):
        for n in names:
            path = os.path.join(base, n)
            with open(path, "rb") as f:
                out[os.path.relpath(path, folder)] = f.read()
    return out


def export(world, tmp_path, name):
    folder = str(tmp_path / name)
    world.gateway.ctl("settings", "export", folder)
    return folder


# ---- round trip ----

def test_round_trip_is_byte_identical(world, tmp_path):
    world.deploy(FULL)
    first = export(world, tmp_path, "one")
    world.gateway.ctl("settings", "apply", first)
    world.gateway.ctl("settings", "deploy")
    second = export(world, tmp_path, "two")
    assert files_of(first) == files_of(second)
    assert "policies/alpha.conf" in files_of(first)
    assert not filecmp.dircmp(first, second).diff_files
    r = world.gateway.ctl("settings", "apply", second, "--plan")
    assert "no difference" in r.stdout
    r = world.gateway.ctl("settings", "diff", second)
    assert "no difference" in r.stdout


def test_old_revision_can_be_exported(world, tmp_path):
    history = world.gateway.ctl_json("settings", "history")[0]["revisions"]
    oldest = min(r["revision"] for r in history)
    folder = str(tmp_path / "old")
    world.gateway.ctl("settings", "export", folder, "--revision", str(oldest))
    assert "policies/alpha.conf" not in files_of(folder)
    assert "policies/pci-card-numbers.conf" in files_of(folder)


def test_shipped_defaults_are_the_embedded_ones(world, tmp_path):
    """share/settings is revision 1, file for file."""
    folder = str(tmp_path / "first")
    world.gateway.ctl("settings", "export", folder, "--revision", "1")
    share = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "share", "settings")
    assert files_of(folder) == files_of(share)


def test_show(world):
    text = world.gateway.ctl("settings", "show", "delivery.conf").stdout
    assert "retry_interval_min = 15" in text
    assert world.gateway.ctl("settings", "show", "nope.conf", check=False).returncode == 66


# ---- errors ----

# file, (old line, new line) or whole text, key, part of the suggestion
ERRORS = [
    ("delivery.conf", ("retry_interval_min = 15", "retry_interval_mim = 15"), "retry_interval_mim",
     "retry_interval_min"),
    ("delivery.conf", ("retry_interval_min = 15", "retry_interval_min = 0"), "retry_interval_min", "1"),
    ("delivery.conf", ("retry_interval_min = 15", "retry_interval_min = abc"), "retry_interval_min", ""),
    ("delivery.conf", ("max_retry_min = 1440", "max_retry_min = 99999999999"), "max_retry_min", "43200"),
    ("delivery.conf", ("max_retry_min = 1440", "max_retry_min = 5"), "max_retry_min", "retry_interval_min"),
    ("delivery.conf", ("ndr_failure_address =", "ndr_failure_address = not an address"),
     "ndr_failure_address", ""),
    ("encryption.conf", ("method = tls", "method = tsl"), "method", "tls"),
    ("encryption.conf", ("method = tls", "method = portal"), "method", "not available"),
    ("encryption.conf", ("level = encrypt", "level = verfy"), "level", "verify"),
    ("dlp.conf", ("outbound = enforce", "outbound = yes"), "outbound", "enforce"),
    ("conn.conf", ("per_ip = 10", "per_ip = 501"), "per_ip", "500"),
    ("conn.conf", ("per_ip = 10", "per_ip"), "", "="),
    ("dns.conf", ("servers =", "servers = 1.2.3"), "servers", ""),
    ("general.conf", ("fqdn =", "fqdn = -bad-.x"), "fqdn", ""),
    ("groups/domain/protected.txt", "inside.test\nnot a domain\n", "", ""),
    ("groups/ip/trusted.txt", "127.0.0.1\n10.0.0.1/8\n", "", "host bits zero"),
    ("groups/ip/trusted.txt", "300.1.1.1\n", "", ""),
    ("routes.conf", "[route default]\ndeliver = mx\ntls = maybe\n", "tls", "opportunistic"),
    ("routes.conf", "[route special]\ngroup = nogroup\n\n[route default]\ndeliver = mx\n", "group", ""),
    ("routes.conf", "[route default]\ndeliver = servers\nserver = [192.0.2.1]:25 mx=yes\n", "server", ""),
    ("routes.conf", "[route default]\ndeliver = servers\nserver = 192.0.2.1:25 mx=yes\n", "server", ""),
    ("routes.conf", "[route default]\ndeliver = servers\n" +
     "".join("server = h%d.test\n" % i for i in range(17)), "server", "16"),
    ("routes.conf", "[route abc]\ndeliver = mx\n", "", "4"),
    ("policies/alpha.conf", "[policy]\n\n[rule a]\ncondition = CREDIT_CRAD at least 1\naction = encrypt\n",
     "condition", "CREDIT_CARD"),
    ("policies/alpha.conf", "[policy]\n\n[rule a]\ncondition = everything\naction = encript\n",
     "action", "encrypt"),
    ("policies/alpha.conf", "[policy]\n\n[rule a]\ncondition = phrase:nope at least 1\naction = encrypt\n",
     "condition", ""),
    ("policies/alpha.conf", "[policy]\ndirections = outbound\n", "directions", "direction"),
    ("policies/alpha.conf", "[polcy]\n", "", "policy"),
    ("phrases.conf", "[phrase x]\ntext =\n", "text", ""),
    ("submitters.conf", "[submitter a@inside.test]\nhash = secret\n", "hash", "argon2id"),
    ("delivry.conf", "x = 1\n", "", "delivery.conf"),
]


@pytest.mark.parametrize("file,change,key,suggestion", ERRORS,
                         ids=["%02d-%s-%s" % (i, e[0], e[2]) for i, e in enumerate(ERRORS)])
def test_errors_have_file_line_key_suggestion(world, tmp_path, file, change, key, suggestion):
    folder = export(world, tmp_path, "bad")
    path = os.path.join(folder, file)
    if isinstance(change, tuple):
        with open(path) as f:
            text = f.read()
        assert change[0] in text, "the test is out of date"
        new = "\n".join(change[1] if x.startswith(change[0]) else x for x in text.split("\n"))
        with open(path, "w") as f:
            f.write(new)
        line = 1 + [x.startswith(change[0]) for x in text.split("\n")].index(True)
    else:
        with open(path, "w") as f:
            f.write(change)
        line = None
    before = world.gateway.ctl_json("status")[0]["revision"]
    r = world.gateway.ctl("settings", "apply", folder, check=False)
    assert r.returncode == 78, (r.returncode, r.stdout, r.stderr)
    first = r.stderr.splitlines()[0]
    parts = first.split(":", 2)
    assert parts[0] == file, first
    assert parts[1].isdigit(), first
    if line and key != "max_retry_min":
        assert int(parts[1]) == line, (first, line)
    assert key in parts[2], first
    assert suggestion in parts[2], first
    answer = json.loads(world.gateway.ctl("settings", "apply", folder, "--json",
                                          check=False).stdout.splitlines()[-1])
    assert answer["errors"] and {"file", "line", "key", "text"} <= set(answer["errors"][0])
    assert world.gateway.ctl_json("status")[0]["revision"] == before


def test_all_errors_at_once(world, tmp_path):
    folder = export(world, tmp_path, "bad")
    for name in ("conn.conf", "msg.conf", "tls.conf"):
        with open(os.path.join(folder, name), "a") as f:
            f.write("nonsense = 1\n")
    r = world.gateway.ctl("settings", "apply", folder, check=False)
    assert r.returncode == 78
    assert [x.split(":")[0] for x in r.stderr.splitlines()[:3]] == ["conn.conf", "msg.conf", "tls.conf"]


def test_deploy_without_draft(world):
    world.deploy(FULL)
    r = world.gateway.ctl("settings", "deploy", check=False)
    assert r.returncode and "draft" in r.stderr


# ---- bootstrap file ----

GOOD = ('hostname = "mx.lab.test"\ndata_dir = "/tmp/postseal-none"\nworkers = 1\n'
        'log { format = text level = info }\nlisten {\n    smtp = {"127.0.0.1:2525"}\n}\n')
BOOT = [
    ('hostname = "mx.lab.test"', 'hostnam = "mx.lab.test"', 1, "hostname"),
    ('hostname = "mx.lab.test"', 'hostname = "not a name"', 1, ""),
    ('data_dir = "/tmp/postseal-none"', 'data_dir = "relative"', 2, "absolute"),
    ('workers = 1', 'workers = 0', 3, ""),
    ('workers = 1', 'workers = many', 3, ""),
    ('format = text', 'format = tex', 4, "text"),
    ('level = info', 'level = loud', 4, "info"),
    ('127.0.0.1:2525', '127.0.0.1:99999', 6, ""),
    ('127.0.0.1:2525', 'localhost', 6, ""),
    ('smtp =', 'stmp =', 6, "smtp"),
    ('listen {', 'listne {', 5, "listen"),
    ('}\n', '\n', None, ""),
]


@pytest.mark.parametrize("old,new,line,suggestion", BOOT)
def test_bootstrap_errors(tmp_path, old, new, line, suggestion):
    path = str(tmp_path / "postseald.conf")
    text = GOOD[::-1].replace(old[::-1], new[::-1], 1)[::-1]
    assert text != GOOD
    with open(path, "w") as f:
        f.write(text)
    for command in ([os.path.join(BUILD, "postsealctl"), "config", "test", path],
                    [os.path.join(BUILD, "postseald"), "--config", path]):
        r = subprocess.run(command, capture_output=True, text=True, timeout=20)
        assert r.returncode == 78, (command[0], r.returncode, r.stderr)
        assert path in r.stderr
        if line:
            assert "%s:%d" % (path, line) in r.stderr, r.stderr
        assert suggestion in r.stderr, r.stderr


def test_bootstrap_good(tmp_path, world):
    path = str(tmp_path / "postseald.conf")
    with open(path, "w") as f:
        f.write(GOOD)
    r = subprocess.run([os.path.join(BUILD, "postsealctl"), "config", "test", path],
                       capture_output=True, text=True, timeout=20)
    assert r.returncode == 0, r.stderr
    with open(world.gateway.config) as f:
        assert len([x for x in f if x.strip() and not x.startswith("#")]) <= 25


def test_missing_bootstrap_file(tmp_path):
    r = subprocess.run([os.path.join(BUILD, "postseald"), "--config", str(tmp_path / "none")],
                       capture_output=True, text=True, timeout=20)
    assert r.returncode in (66, 78) and "none" in r.stderr


# ---- simulate is the mail path ----

def generated(seed):
    """A message of random virtues, and its recipient."""
    rng = random.Random(seed)
    words = ["hello", "invoice", "4111 1111 1111 1111", "5500-0000-0000-0004", "536-90-4399",
             "Project Alpha", "project alpha", "strictly internal", "4111111111111112", "340000000000009",
             "nothing here"]
    body = "\n".join(" ".join(rng.choice(words) for _ in range(rng.randint(1, 4)))
                     for _ in range(rng.randint(1, 6)))
    form = rng.choice(["plain", "html", "mixed", "image", "nested"])
    subject = rng.choice(words)
    if form == "html":
        text = mail("a@inside.test", "b", subject, "<p>%s</p>" % body.replace("\n", "<br>"),
                    "MIME-Version: 1.0\nContent-Type: text/html\n")
    elif form in ("mixed", "image"):
        kind, name = ("image/png", "p.png") if form == "image" else ("text/plain", "a.xlsx")
        text = mail("a@inside.test", "b", subject, "--b\n\n%s\n--b\nContent-Type: %s\n"
                    "Content-Disposition: attachment; filename=%s\n\n%s\n--b--" % (
                        body, kind, name, rng.choice(words)),
                    "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n")
    elif form == "nested":
        text = mail("a@inside.test", "b", subject, "Subject: in\n\n" + body,
                    "MIME-Version: 1.0\nContent-Type: message/rfc822\n")
    else:
        text = mail("a@inside.test", "b", subject, body)
    to = rng.choice(["b@good.test", "b@inside.test", "b@none.test"])
    sender = rng.choice(["a@inside.test", "x@elsewhere.test", ""])
    return sender, to, text


SETS = {
    "defaults": {},
    "hold": {"policies/alpha.conf": FULL["policies/alpha.conf"],
             "policies/beta.conf": "[policy]\ndirection = outbound, internal, inbound\n\n[rule b]\n"
                                   "condition = phrase:beta at least 1\naction = quarantine severity=low\n"},
    "strict": {"policies/alpha.conf": "[policy]\n\n[rule a]\nmatch = any\n"
                                      "condition = US_SSN at least 2 unique\n"
                                      "condition = CREDIT_CARD between 2 and 3\n"
                                      "condition = file-type image/*\naction = quarantine\n",
               "policies/opaque-content.conf": "[policy]\nenabled = yes\ndirection = outbound\n\n[rule images]\n"
                                               "condition = property opaque\naction = encrypt\n"},
    "monitor": {},
}
OFF = {"policies/alpha.conf": "[policy]\nenabled = no\n", "policies/beta.conf": "[policy]\nenabled = no\n"}
COMPARED = ("direction", "action", "wanted", "monitor", "encrypt", "method", "hold", "severity", "reason", "rules")


@pytest.mark.parametrize("name", SETS)
def test_simulate_agrees_with_the_mail_path(world, tmp_path, name):
    """30 generated messages under each of four sets of policies."""
    mode = "monitor" if name == "monitor" else "enforce"
    world.deploy({"phrases.conf": PHRASES, **OFF, **(SETS["hold"] if name == "monitor" else SETS[name])},
                 dlp__outbound=mode, dlp__internal=mode)
    actions = set()
    try:
        for seed in range(30):
            sender, to, text = generated("%s %d" % (name, seed))
            path = str(tmp_path / "m.eml")
            with open(path, "w", newline="") as f:
                f.write(text.replace("\n", "\r\n"))
            said = world.gateway.ctl_json("simulate", path, "--from", sender, "--rcpt", to,
                                          "--client", "127.0.0.1")[0]
            plan = said["recipients"][0]
            id = world.gateway.send(sender, to, text)
            done = world.gateway.wait_event(id, "decided")[0]["detail"]
            for key in COMPARED:
                assert plan.get(key) == done.get(key), (seed, key, plan, done)
            found = {k: v for k, v in said["facts"]["totals"].items() if v}
            assert found == {k: v for k, v in done.get("found", {}).items() if v}, seed
            actions.add(done["action"])
            if done["action"] != "quarantine":
                attempt = wait_for(lambda: [e for e in world.gateway.trace(id) if e["event"] in
                                            ("delivered", "delayed")], 20, "attempt")[0]["detail"]
                assert attempt["route"] == plan["hop"]["route"]
                assert attempt["required"] == plan["hop"]["tls_required"]
    finally:
        world.drop_all()
        world.deploy(OFF, dlp__outbound="enforce", dlp__internal="enforce")
    assert actions >= {"defaults": {"permit", "encrypt"}, "hold": {"permit", "encrypt", "quarantine"},
                       "strict": {"permit", "quarantine"}, "monitor": {"permit"}}[name]


def test_simulate_says_what_is_refused(world, tmp_path):
    path = str(tmp_path / "m.eml")
    with open(path, "w") as f:
        f.write("Subject: x\r\n\r\nhi\r\n")
    said = world.gateway.ctl_json("simulate", path, "--from", "a@inside.test", "--rcpt",
                                  "b@good.test", "--client", "192.0.2.7")[0]
    assert not said["recipients"][0]["accepted"] and said["recipients"][0]["code"] == 550


def test_scan_file(world, tmp_path):
    path = str(tmp_path / "m.eml")
    with open(path, "w") as f:
        f.write("Subject: x\r\n\r\ncard %s\r\n" % CARD)
    r = world.gateway.ctl("scan", path)
    assert "CREDIT_CARD" in r.stdout and CARD not in r.stdout and "4111111111111111" not in r.stdout


def test_explain_route(world):
    world.deploy({"groups/domain/special.txt": "special.test\n*.special.test\n",
                  "routes.conf": "[route special]\ngroup = special\ndeliver = servers\n"
                                 "server = h1.test:2525 preference=7\nserver = [2001:db8::1]:25\ntls = off\n\n"
                                 "[route default]\ndeliver = mx\n"})
    one = world.gateway.ctl_json("explain", "route", "x@special.test")[0]
    assert (one["route"], one["tls_required"]) == ("special", "off")
    assert [(s["name"], s["port"], s["preference"]) for s in one["servers"]] == [
        ("2001:db8::1", 25, 5), ("h1.test", 2525, 7)] or one["servers"][0]["preference"] == 5
    assert world.gateway.ctl_json("explain", "route", "x@a.SPECIAL.test")[0]["route"] == "special"
    two = world.gateway.ctl_json("explain", "route", "x@other.test")[0]
    assert (two["route"], two["deliver"], two["tls_required"]) == ("default", "mx", "opportunistic")
    three = world.gateway.ctl_json("explain", "route", "x@special.test", "--encrypt")[0]
    assert three["tls_required"] == "encrypt" and "Encrypt" in three["tls_required_by"]
    world.deploy()


# ---- find, trace, log level, spool ----

def test_find_and_trace(world):
    world.clear()
    id = world.send("finder@inside.test", "b@good.test", "Peculiar subject words", "hi")
    world.gateway.wait_event(id, "done")
    for text in ("Peculiar", "finder@inside.test", "subject words"):
        found = world.gateway.ctl_json("message", "find", text)
        assert id in [e["id"] for e in found], text
    events = [e["event"] for e in world.gateway.trace(id)]
    assert events[0] == "received" and events[-1] == "done"
    assert {"decided", "delivered"} <= set(events)
    detail = world.last(id, "delivered")
    assert detail["tls"]["version"] == "TLSv1.3" and detail["tls"]["bits"] >= 128
    assert detail["tls"]["peer"] == "CN=mx.good.test" and detail["code"] == 250
    text = world.gateway.ctl("message", "trace", id).stdout
    for part in ("received", "decided", "delivered", "TLSv1.3", "CN=mx.good.test"):
        assert part in text
    assert world.gateway.ctl("message", "trace", "0000000000000", check=False).returncode == 66
    assert world.gateway.ctl("message", "trace", "nonsense", check=False).returncode == 64


def test_log_level(world):
    g = world.gateway

    def lines_of_one_mail():
        before = len(g.log_text())
        id = world.send("a@inside.test", "b@good.test", "level", "hi")
        g.wait_event(id, "done")
        return [x for x in g.log_text()[before:].splitlines() if id in x]
    assert lines_of_one_mail()
    g.ctl("log", "level", "error")
    try:
        id = world.send("a@inside.test", "b@good.test", "level", "hi")
        g.wait_event(id, "done")
        second = lines_of_one_mail()
        assert not second
    finally:
        g.ctl("log", "level", "info")
    assert g.ctl("log", "level", "loud", check=False).returncode == 64
    wait_for(lines_of_one_mail, 10, "lines again")


def test_spool_verify_and_export_while_running(world, tmp_path):
    world.clear()
    id = world.gateway.send("a@inside.test", "b@none.test", b"Subject: kept\r\n\r\ncard " + CARD.encode() + b"\r\n")
    world.gateway.wait_event(id, "delayed")
    r = world.gateway.ctl("spool", "verify")
    assert ", 0 damaged" in r.stdout
    folder = str(tmp_path / "spool")
    r = world.gateway.ctl("spool", "export", folder, "--id", id)
    with open(os.path.join(folder, id + ".eml"), "rb") as f:
        assert f.read().endswith(b"Subject: kept\r\n\r\ncard " + CARD.encode() + b"\r\n")
    with open(os.path.join(folder, id + ".envelope")) as f:
        assert "b@none.test" in f.read()
    large = b"Subject: big\r\n\r\n" + b"words of a large body\r\n" * 20000 + b"card " + CARD.encode() + b"\r\n"
    id = world.gateway.send("a@inside.test", "b@none.test", large)
    world.gateway.wait_event(id, "delayed")
    shutil.rmtree(folder)
    world.gateway.ctl("spool", "export", folder, "--id", id)
    with open(os.path.join(folder, id + ".eml"), "rb") as f:
        assert f.read().endswith(large)
    spool = os.path.join(world.gateway.data, "spool")
    for name in os.listdir(spool):
        with open(os.path.join(spool, name), "rb") as f:
            assert b"words of a large body" not in f.read(), "bodies are encrypted at rest"
    world.drop_all()


def test_audit_names_the_user(world):
    import pwd
    me = pwd.getpwuid(os.getuid()).pw_name
    audit = world.gateway.ctl_json("audit", "list")
    assert {a["user"] for a in audit if a["action"] == "deploy"} == {me}
    assert {"apply", "deploy"} <= {a["action"] for a in audit}


def test_queue_acts_are_audited(world):
    """F12: deliver, delete and the like stand in the audit log too."""
    id = world.send("a@inside.test", "b@none.test", "audited", "card " + CARD)
    world.gateway.wait_event(id, "delayed")
    world.gateway.ctl("queue", "drop", id, "--yes")
    wait_for(lambda: [a for a in world.gateway.ctl_json("audit", "list")
                      if a["action"] in ("drop", "queue.drop") and id in a["element"] + a["detail"]], 5,
             "audit entry")


def test_usage_errors(world):
    for args in (["queue", "show"], ["nonsense"], ["message"], ["explain", "route"],
                 ["settings", "rollback"], ["log", "level"], ["simulate"]):
        assert world.gateway.ctl(*args, check=False).returncode == 64, args
    r = subprocess.run([os.path.join(BUILD, "postsealctl"), "--data", "/nonexistent", "status"],
                       capture_output=True, text=True, timeout=20)
    assert r.returncode == 69 and "running" in r.stderr
