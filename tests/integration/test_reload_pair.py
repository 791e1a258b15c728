"""SIGHUP with a certificate that does not belong to its key: the other pair serves, the log says so."""
import os
import shutil
import signal
import socket
import ssl

from postseal_lab.ca import CA
from postseal_lab.dns import DNS
from postseal_lab.gateway import Gateway, wait_for


def key_type(gateway, cipher):
    """Key of the certificate served to a client that takes only this kind of TLS 1.2 suite."""
    context = ssl._create_unverified_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(cipher)
    try:
        with socket.create_connection(("127.0.0.1", gateway.ports["submissions"]), 10) as s:
            with context.wrap_socket(s) as t:
                return t.cipher()[0]
    except ssl.SSLError:
        return None


def test_a_pair_that_does_not_match_is_left_out(tmp_path):
    ca, dns = CA(str(tmp_path / "ca")), DNS()
    gateway = Gateway(ca=ca.path, dns=dns)
    try:
        gateway.start(60)
        assert key_type(gateway, "ECDHE-ECDSA-AES256-GCM-SHA384")
        foreign, _ = ca.issue("foreign", ["gateway.lab.test"])
        shutil.copyfile(foreign, os.path.join(gateway.data, "keys", "default-ec.crt"))
        gateway.process.send_signal(signal.SIGHUP)
        wait_for(lambda: key_type(gateway, "ECDHE-ECDSA-AES256-GCM-SHA384") is None, 90,
                 "end of the wrong pair")
        assert key_type(gateway, "ECDHE-RSA-AES256-GCM-SHA384")
        assert "event=keys.pair" in gateway.log_text()
    finally:
        gateway.close()
        dns.close()
