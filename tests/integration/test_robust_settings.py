"""A damaged or lost settings snapshot: nothing is accepted or decided by other settings than the active
ones; the database brings them back."""
import os

import pytest

from postseal_lab.ca import CA
from postseal_lab.dns import DNS
from postseal_lab.gateway import Gateway, mail
from postseal_lab.sink import Sink

POLICY = """[policy]
description = words of ours
enabled = yes
direction = outbound

[rule words]
match = all
count = message
condition = phrase:project at least 1
action = encrypt severity=high
"""


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_snapshot_comes_back_from_the_database(tmp_path, damage):
    ca, dns = CA(str(tmp_path / "ca")), DNS()
    sink = Sink("127.0.0.3", 0, tls="none", hostname="mx.plain.test")
    dns.mail_host("plain.test", "127.0.0.3")
    gateway = Gateway(ca=ca.path, dns=dns)
    try:
        gateway.start(60)
        gateway.settings({"phrases.conf": "[phrase project]\ntext = bluebird\n",
                          "policies/words.conf": POLICY})
        gateway.world(sink.port)
        revision = gateway.ctl_json("status")[0]["revision"]
        gateway.stop()
        path = os.path.join(gateway.data, "settings", "current")
        with open(path, "r+b") as f:
            text = f.read()
            f.seek(0)
            f.truncate()
            if damage == "flip":
                f.write(text.replace(b"[rule words]", b"[rule word\xff"))
            elif damage == "cut":
                f.write(text[:len(text) // 2])
        if damage == "remove":
            os.unlink(path)
        gateway.start(60)
        assert gateway.ctl_json("status")[0]["revision"] == revision
        id = gateway.send("a@inside.test", "b@plain.test",
                          mail("a@inside.test", "b@plain.test", "s", "about Bluebird"))
        assert gateway.wait_event(id, "decided")[0]["detail"]["encrypt"]
        gateway.wait_event(id, "delayed")
        assert not sink.mails
    finally:
        gateway.close()
        sink.close()
        dns.close()
