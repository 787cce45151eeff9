"""Signed models: `thimble pack --sign`, the verifier in MicroPython, and both servers with a key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host_tools import cli
from host_tools.client import Client, signature, trailer_sha256
from host_tools.exit_codes import ExitCode
from host_tools.signing import load_signer
from host_tools.transports import LoopbackTransport
from model_packager import container
from model_packager import format_table as table
from model_packager.errors import DeviceRefused, UsageError
from model_packager.format_table import Capability, ErrorCode
from model_packager.pack import pack
from tests import tflite_models
from tests.conftest import require_module
from tests.device_models import expected_outputs, packed_model, random_inputs
from tests.server_devices import CDevice, SlotDevice

# RFC 8032, section 7.1, TEST 1 to 3: public key, message, signature.
RFC_8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
        "387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
        "4a7c15e9716ed28dc027beceea1ec40a",
    ),
]
ORDER = 2**252 + 27742317777372353535851937790883648493


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A private key in PEM, and its public part."""
    require_module("cryptography")
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    path = tmp_path_factory.mktemp("keys") / "key.pem"
    path.write_bytes(private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()))
    return path, private.public_key().public_bytes(form.Encoding.Raw, form.PublicFormat.Raw)


def signed_by(path: Path, file: bytes) -> bytes:
    """The same model, packed again with a signature."""
    return container.dump(container.load(file), signer=load_signer(path))


def verified_by_cryptography(key: bytes) -> Callable[[bytes, bytes], bool]:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    public = Ed25519PublicKey.from_public_bytes(key)

    def verify(message: bytes, found: bytes) -> bool:
        try:
            public.verify(found, message)
        except InvalidSignature:
            return False
        return True

    return verify


# ------------------------------------------------------------------------------------------- the verifier


@pytest.mark.parametrize(("key", "message", "signed"), RFC_8032, ids=["1", "2", "3"])
def test_device_verifier_takes_the_vectors_of_rfc_8032(key: str, message: str, signed: str) -> None:
    from thimble.ed25519 import verify

    given = bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signed)
    assert verify(*given)
    for index, part in enumerate(given):
        for at in range(0, len(part), 9):
            changed = part[:at] + bytes([part[at] ^ 1 << at % 8]) + part[at + 1 :]
            assert not verify(*(changed if i == index else other for i, other in enumerate(given)))


def test_device_verifier_agrees_with_cryptography(keys: tuple[Path, bytes]) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from thimble.ed25519 import verify

    random = np.random.default_rng(1)
    for _ in range(40):
        private = Ed25519PrivateKey.from_private_bytes(random.bytes(32))
        key, message = private.public_key().public_bytes_raw(), random.bytes(32)
        good = private.sign(message)
        s = int.from_bytes(good[32:], "little")
        cases = {
            "good": good,
            "other message": private.sign(random.bytes(32)),
            "s too large": good[:32] + (s + ORDER).to_bytes(32, "little"),
            "noise": random.bytes(64),
            "r not canonical": (2**255 - 19 + 1).to_bytes(32, "little") + good[32:],
        }
        for name, case in cases.items():
            assert verify(key, message, case) == verified_by_cryptography(key)(message, case), name
            assert verify(key, message, case) == (name == "good")
    for wrong in (b"", key[:31], (2**255 - 1).to_bytes(32, "little"), (2).to_bytes(32, "little")):
        assert not verify(wrong, message, good)
    assert not verify(key, message, good[:63])


# -------------------------------------------------------------------------------------------- the command


def test_pack_command_signs_the_sha256(keys: tuple[Path, bytes], tmp_path: Path) -> None:
    source, output = tmp_path / "net.tflite", tmp_path / "net.thimble"
    weights = np.random.default_rng(3).integers(-127, 128, (4, 9)).astype(np.int8)
    source.write_bytes(tflite_models.fully_connected((1, 9), weights, None, (0.02, 3), [0.01], (0.05, -7)))
    assert cli.main(["pack", str(source), "-o", str(output), "--sign", str(keys[0])]) == ExitCode.OK
    file = output.read_bytes()
    assert file[5] == table.HeaderFlag.SIGNED
    assert trailer_sha256(file) == hashlib.sha256(file[:-96]).digest()
    assert verified_by_cryptography(keys[1])(trailer_sha256(file), signature(file))
    assert file[8:12] == len(pack(source).data + bytes(64)).to_bytes(4, "little")


def test_signer_refuses_what_is_no_ed25519_key(keys: tuple[Path, bytes], tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    path = tmp_path / "key.pem"
    path.write_bytes(b"nothing")
    with pytest.raises(
        UsageError, match=f"^{path} is no PEM file with an Ed25519 private key without a password$"
    ):
        load_signer(path)
    other = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(other.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()))
    with pytest.raises(UsageError, match="a private key, but not an Ed25519 one"):
        load_signer(path)


# -------------------------------------------------------------------------------------------- the servers


@pytest.fixture(params=["slots", "c"])
def client(request: pytest.FixtureRequest, keys: tuple[Path, bytes], tmp_path: Path) -> Iterator[Client]:
    """A device that was given the public key, with a model that it already had."""
    server: Any
    if request.param == "slots":
        slots = SlotDevice(tmp_path)
        slots.store(packed_model(seed=2, units=10))
        slots.provision(keys[1])
        server = slots.start(256)
    else:
        flash = CDevice(request.getfixturevalue("c_server"), tmp_path)
        flash.store(packed_model(seed=2, units=10))
        server = flash.start(256)
        server.provision(verified_by_cryptography(keys[1]))
    yield Client(LoopbackTransport(server.handle, server.limit_bytes), resend_s=1)
    server.close()


def runs(client: Client, file: bytes) -> bool:
    inputs = random_inputs(file, 1)
    named = client.refresh().model_sha256 == trailer_sha256(file)
    return named and client.infer(inputs)[0] == expected_outputs(file, inputs)


def refusal(client: Client, file: bytes, force: bool = False) -> tuple[ErrorCode, int]:
    """The error, and how many bytes were sent before it."""
    sent: list[int] = []
    with pytest.raises(DeviceRefused) as refused:
        client.deploy(file, force=force, progress=lambda done, whole: sent.append(done))
    return refused.value.code, sum(sent)


def test_device_with_a_key_takes_what_it_signed(client: Client, keys: tuple[Path, bytes]) -> None:
    assert Capability.SIGNATURES in client.hello.capabilities
    file = signed_by(keys[0], packed_model(seed=3, units=10))
    client.deploy(file)
    assert runs(client, file)


@pytest.mark.parametrize("force", [False, True])
def test_device_with_a_key_refuses_others_before_anything_is_sent(
    client: Client, keys: tuple[Path, bytes], force: bool
) -> None:
    plain = packed_model(seed=3, units=10)
    assert refusal(client, plain, force) == (ErrorCode.UNSIGNED, 0)
    good = signed_by(keys[0], plain)
    for at in (-64, -1):
        wrong = bytearray(good)
        wrong[at] ^= 1
        assert refusal(client, bytes(wrong), force) == (ErrorCode.BAD_SIGNATURE, 0)
    assert runs(client, packed_model(seed=2, units=10))


def test_device_with_a_key_refuses_a_file_behind_the_signature_of_another(
    client: Client, keys: tuple[Path, bytes]
) -> None:
    """BEGIN announces a signed file, DATA brings another one, or the same with another trailer."""
    good = signed_by(keys[0], packed_model(seed=3, units=10))
    other = packed_model(seed=2, units=10)
    begin = client.begin
    for sent, code in (
        (good[:-64] + bytes(64), ErrorCode.BAD_SIGNATURE),
        (good[:-40] + bytes(40), ErrorCode.BAD_SIGNATURE),
        (other.ljust(len(good), b"\0")[: len(good)], None),
    ):
        offset = begin(good)
        while offset < len(sent):
            offset = client.data(offset, sent[offset : offset + 250])
        with pytest.raises(DeviceRefused) as refused:
            client.commit()
        assert code is None or refused.value.code == code
        assert runs(client, other)


def test_device_with_a_key_refuses_a_begin_without_the_signature(
    client: Client, keys: tuple[Path, bytes]
) -> None:
    good = signed_by(keys[0], packed_model(seed=3, units=10))
    client.hello.__dict__["capabilities"] = Capability(0)  # a host that does not know of signatures
    assert refusal(client, good) == (ErrorCode.TRUNCATED, 0)
