"""A full disk: mail is refused with 452 4.3.1 at MAIL, while deliveries, reports and administration go
on from the reserve; nothing acknowledged is lost; mail is taken again once there is room."""
import os
import smtplib
import subprocess

import pytest

from robust import Lab, Load, mail, mount_small, private_mounts, wait_for

BODY = "\n".join("x" * 76 for _ in range(700))  # 54 KB


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    assert os.getuid() == 0, "mounting a small file system needs root"
    tmp = tmp_path_factory.mktemp("disk")
    private_mounts()
    data = str(tmp / "gateway" / "data")
    mount_small(data, 256)
    lab = Lab(tmp, folder=str(tmp / "gateway"))
    lab.start(delivery__destination_concurrency=50)
    yield lab
    lab.close()
    subprocess.run(["umount", "-l", data], check=False)


def free(lab):
    s = os.statvfs(lab.gateway.data)
    return s.f_bavail * s.f_frsize


def fill_disk(lab, leave):
    """Writes a file that leaves so much."""
    path = os.path.join(lab.gateway.data, "filler")
    with open(path, "ab") as f:
        while free(lab) > leave:
            f.write(b"x" * min(1 << 20, free(lab) - leave))
            f.flush()
    return path


def mail_reply(lab):
    c = lab.gateway.client(tls=False)
    try:
        return c.mail("a@inside.test")
    finally:
        c.close()


def test_full_disk(lab):
    gateway = lab.gateway
    assert gateway.send("a@inside.test", "b@good.test", mail("a@inside.test", "b@good.test", "x", "x"))
    mixed = Load(gateway, BODY, ("bad", "good"), senders=2)
    load = Load(gateway, BODY, ("slow",), senders=2)
    wait_for(lambda: load.count() >= 50 and mixed.count() >= 50, 60, "load")
    filler = fill_disk(lab, 20 << 20)  # below the reserve: an eighth of the file system
    wait_for(lambda: load.refused["452 4.3.1"] >= 5, 120, "452")
    mixed.stop()  # what is delivered makes room; the others go on asking for it
    wait_for(lambda: mail_reply(lab)[1].startswith(b"4.3.1"), 60, "452 at MAIL")
    assert set(load.refused) == {"452 4.3.1"}, load.refused

    # what is not new mail goes on
    waiting = sorted(load.of("slow").items())
    assert len(waiting) > 50
    wait_for(lambda: set(mixed.of("good")) <= set(lab.subjects("good")), 60, "deliveries")
    wait_for(lambda: sum(lab.subjects("inside").values()) >= len(mixed.of("bad")), 60, "reports")
    gateway.ctl("queue", "hold", "--id", waiting[0][1], "--yes")
    gateway.ctl("queue", "bounce", "--id", waiting[1][1], "--yes")
    gateway.settings(None, "on a full disk", delivery__retry_interval_min=20)
    lab.let_through("slow")
    gateway.ctl("queue", "retry", "--id", waiting[2][1], "--yes")
    wait_for(lambda: waiting[2][0] in lab.subjects("slow"), 20, "delivery on a full disk")
    wait_for(lambda: gateway.queue("--id", waiting[0][1])[0]["queue"] == "admin", 20, "hold")
    gateway.wait_event(waiting[1][1], "bounced")

    # and survives a restart
    gateway.stop()
    gateway.process = None
    restart_full(gateway)
    wait_for(lambda: mail_reply(lab)[0] == 452, 20, "452 after a restart")
    assert len(gateway.queue("--limit", "100000")) >= len(waiting) - 3

    # not one byte free: nothing ends
    fill_disk(lab, 0)
    children = gateway.children()
    gateway.ctl("queue", "retry", "--id", waiting[3][1], "--yes")
    wait_for(lambda: waiting[3][0] in lab.subjects("slow"), 20, "delivery without a byte free")
    assert gateway.children() == children

    # room again
    os.unlink(filler)
    n = load.count()
    wait_for(lambda: load.count() >= n + 20, 30, "acceptance")
    load.stop()
    gateway.ctl("queue", "release", "--id", waiting[0][1], "--yes")
    gateway.ctl("queue", "retry", "--queue", "delayed", "--yes")
    gone = {waiting[1][0]}
    wait_for(lambda: set(load.of("slow")) - gone <= set(lab.subjects("slow")), 90, "all deliveries")
    wait_for(lambda: not gateway.queue(), 30, "empty queue")
    assert gone.isdisjoint(lab.subjects("slow"))
    assert all(n == 1 for n in lab.subjects("slow").values())
    last = gateway.send("a@inside.test", "b@good.test",
                        mail("a@inside.test", "b@good.test", "after", "x"))
    gateway.wait_event(last, "delivered")
    assert "intake-closed" in gateway.log_text()


def restart_full(gateway):
    """As Gateway.start, though mail is not accepted."""
    real = gateway.wait_ready
    gateway.wait_ready = lambda timeout: None
    try:
        gateway.start()
    finally:
        gateway.wait_ready = real

    def up():
        r = gateway.ctl("status", "--json", check=False)
        return r.returncode == 0 and '"store":true' in r.stdout.replace(" ", "") and listening()

    def listening():
        try:
            c = smtplib.SMTP("127.0.0.1", gateway.ports["smtp"], timeout=5)
            c.close()
            return True
        except (OSError, smtplib.SMTPException):
            return False
    wait_for(up, 60, "restart on a full disk")
