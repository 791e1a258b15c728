"""Every postsealctl command that a document shows runs: no usage error, no refusal of its words."""
import glob
import os
import re
import shlex
import subprocess

import pytest
from postseal_lab.gateway import BUILD

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
PAGES = ["README.md", "docs/settings.md", "docs/man/postsealctl.1", "docs/man/postseal-settings.7"] + \
    sorted(os.path.relpath(p, ROOT) for p in glob.glob(os.path.join(ROOT, "docs/admin/*.md")))
FINE = {0: "done", 65: "damage", 66: "nothing matches", 75: "not confirmed, or busy"}


def literal_lines(page):
    """Lines of fenced, indented or literal blocks, with continued lines joined."""
    with open(os.path.join(ROOT, page)) as f:
        text = f.read()
    if page.endswith(".md"):
        blocks = re.findall(r"^```\n(.*?)^```", text, flags=re.S | re.M)
        blocks += re.findall(r"(?:^    .*\n)+", text, flags=re.M)
    else:
        blocks = re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed", text, flags=re.S | re.M)
    text = re.sub(r"\s*\\e?\n\s*", " ", "\n".join(blocks)).replace("\\-", "-")
    return [re.sub(r"^\s*(?:[$#] )?", "", line) for line in text.splitlines()]


def commands(page):
    """Commands without the remarks behind them."""
    found = []
    for line in literal_lines(page):
        if re.match(r"(build/)?postsealctl ", line):
            line = re.split(r"\s{2,}|\s+# ", line)[0]
            found.append(line[line.index("postsealctl ") + len("postsealctl "):])
    return found


@pytest.fixture(scope="module")
def world(new_world):
    w = new_world()
    w.partner("inside.test")
    w.partner("partner.example", tls="none", cert="none")
    return w.start()


@pytest.fixture
def places(world, tmp_path):
    """What the examples call by name: files, folders, ids."""
    g = world.gateway
    message = tmp_path / "message.eml"
    message.write_text("From: a@inside.test\nSubject: x\n\ncard 4111 1111 1111 1111\n")
    id = g.send("alice@inside.test", "bob@partner.example", message.read_text())
    g.wait_event(id, "delayed")
    tree = tmp_path / "tree"
    g.ctl("settings", "export", str(tree))
    g.ctl("settings", "apply", str(tree))  # so that there is a draft
    other = tmp_path / "other"
    return {"FILE": message, "message.eml": message, "tree": tree, "DIR": tree, "OUT": other,
            "/root/saved": other, "old": other, "ID": id, "N": "1", "IP": "127.0.0.1", "S": "alice@inside.test",
            "R": "bob@partner.example", "/etc/postseal/postseald.conf": g.config,
            "postseald.conf": g.config}


def words_of(command, places, gateway):
    command = re.sub(r"\s*<.*", "", command)
    words = [str(places.get(w, w)) for w in shlex.split(command)]
    words = [places["ID"] if re.fullmatch(r"1M[0-9A-Z]{11}", w) else w for w in words]
    if "--data" in words:
        at = words.index("--data")
        del words[at:at + 2]
    if words[:2] == ["spool", "export"]:
        words[2] = str(places["OUT"])
    return ["--data", gateway.data] + words


@pytest.mark.parametrize("page", PAGES)
def test_commands_of(page, world, places):
    shown = commands(page)
    assert shown, "no command was found"
    for command in shown:
        words = words_of(command, places, world.gateway)
        r = subprocess.run([os.path.join(BUILD, "postsealctl")] + words, capture_output=True,
                           text=True, timeout=60, input="no\n")
        told = "postsealctl %s: exit %d\n%s%s" % (command, r.returncode, r.stdout, r.stderr)
        assert r.returncode in FINE, told
        if words[2:4] == ["settings", "deploy"]:  # the next example wants a draft again
            world.gateway.ctl("settings", "apply", str(places["tree"]))
