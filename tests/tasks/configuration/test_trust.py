"""`[trust]` of the matrix, and the environment over it."""

import base64
import re
from pathlib import Path

import pytest

from cache import signing
from cache.errors import CacheError
from tasks.configuration.mistakes import Mistakes
from tasks.configuration.remote_cache import RemoteCache, open_store
from tasks.configuration.trust import chosen_trust, read_trust
from tasks.errors import BuildError
from tests.cache.signers import SEED, another, signer

CI, OTHER = signer("ci").public, another("other").public
CI_TEXT, OTHER_TEXT = signing.write_public(CI), signing.write_public(OTHER)
PRIVATE = base64.b64encode(SEED).decode()


def read(value: object) -> tuple[dict[str, bytes], list[str]]:
    mistakes = Mistakes()
    return read_trust(value, mistakes), mistakes.lines


def test_no_table_is_no_keys() -> None:
    assert read({}) == ({}, [])
    assert chosen_trust({}, {}).keys == {}


def test_keys_by_name() -> None:
    assert read({"ci": CI_TEXT, "other": OTHER_TEXT}) == ({"ci": CI, "other": OTHER}, [])


@pytest.mark.parametrize(
    ("table", "mistake"),
    [
        ("x", "trust: expected a table, found str"),
        ({"ci": 1}, "trust.ci: expected a text, found int"),
        ({"ci": "x"}, "trust.ci: not an ed25519 public key: 'x' (hint: it is 44 characters"),
        ({"c i": CI_TEXT}, "trust.c i: names are letters"),
        ({"a": CI_TEXT, "b": CI_TEXT}, "trust.b: the same key as a (hint: delete one of them)"),
    ],
)
def test_mistakes(table: object, mistake: str) -> None:
    (line,) = read(table)[1]
    assert mistake in line


def test_keys_of_the_environment_are_instead_of_those_of_the_matrix() -> None:
    """Who changes the matrix in a pull request cannot add one to them."""
    variable = {"OLMILL_TRUSTED_KEYS": f"ci={CI_TEXT},other={OTHER_TEXT}"}
    assert chosen_trust({"mine": OTHER}, variable).keys == {"ci": CI, "other": OTHER}
    spaced = {"OLMILL_TRUSTED_KEYS": f"\n ci={CI_TEXT} \n other={OTHER_TEXT} \n"}
    assert chosen_trust({}, spaced).keys == {"ci": CI, "other": OTHER}


@pytest.mark.parametrize("empty", ["", " ", "\n"])
def test_an_empty_variable_is_none(empty: str) -> None:
    """As CI systems have it where a secret is not set: it must not mean that all is believed."""
    environment = {"OLMILL_TRUSTED_KEYS": empty, "OLMILL_SIGNING_KEY": empty}
    found = chosen_trust({"ci": CI}, environment)
    assert (found.keys, found.signer) == ({"ci": CI}, None)


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (CI_TEXT, f"'{re.escape(CI_TEXT)}' is not NAME=KEY"),
        ("ci", "'ci' is not NAME=KEY"),
        (f"ci={CI_TEXT[:20]}", "ci: not an ed25519 public key"),
        (f"ci={CI_TEXT} ci={OTHER_TEXT}", "ci: the name is given twice"),
        (f"a={CI_TEXT},b={CI_TEXT}", "b: the same key as a"),
        (f"={CI_TEXT}", "is not NAME=KEY"),
        (f"a b={CI_TEXT}", "'a' is not NAME=KEY"),
        (f"_={CI_TEXT}", "_: names are letters"),
    ],
)
def test_variables_without_keys_are_refused(text: str, mistake: str) -> None:
    with pytest.raises(BuildError, match=f"OLMILL_TRUSTED_KEYS: .*{mistake}") as caught:
        chosen_trust({}, {"OLMILL_TRUSTED_KEYS": text})
    own = {"not an ed25519": "it is 44 characters", "the same key": "delete one"}
    hint = next((hint for told, hint in own.items() if told in mistake), "write NAME=KEY, with")
    assert str(caught.value.hint).startswith(hint)


def test_who_signs_has_the_name_of_the_key_or_another() -> None:
    environment = {"OLMILL_SIGNING_KEY": PRIVATE}
    found = chosen_trust({"ci-2026": CI}, environment).signer
    assert found is not None
    assert (found.builder, found.public) == ("ci-2026", CI)
    named = chosen_trust({"ci-2026": CI}, {**environment, "OLMILL_BUILDER": "github:a/b"}).signer
    assert named is not None
    assert named.builder == "github:a/b"
    for keys in ({}, {"other": OTHER}):
        with pytest.raises(BuildError, match="has no name") as caught:
            chosen_trust(keys, environment)
        assert CI_TEXT in str(caught.value)
        assert PRIVATE not in f"{caught.value} {caught.value.hint}"
    with pytest.raises(BuildError, match="OLMILL_BUILDER: not the name of a builder"):
        chosen_trust({}, {**environment, "OLMILL_BUILDER": "me and you"})


def test_the_public_key_in_place_of_the_private_one() -> None:
    environment = {"OLMILL_SIGNING_KEY": CI_TEXT, "OLMILL_BUILDER": "github"}
    with pytest.raises(BuildError, match="OLMILL_SIGNING_KEY is the public key of ci"):
        chosen_trust({"ci": CI}, environment)


def test_a_private_key_that_is_none_is_not_shown() -> None:
    broken = PRIVATE[:-4] + "!!!="
    with pytest.raises(CacheError, match="OLMILL_SIGNING_KEY: neither") as caught:
        chosen_trust({}, {"OLMILL_SIGNING_KEY": broken})
    assert broken[:10] not in f"{caught.value} {caught.value.hint}"


def test_a_store_has_the_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    believed = chosen_trust({"ci": CI}, {"OLMILL_SIGNING_KEY": PRIVATE})
    store = open_store(tmp_path, RemoteCache("http://host"), {}, believed)
    assert store.remote is not None
    assert store.trust == store.remote.trust == believed
    monkeypatch.setattr(signing, "find_spec", lambda _: None)
    with pytest.raises(CacheError, match="the package cryptography"):
        open_store(tmp_path, RemoteCache("http://host"), {}, believed)
    assert open_store(tmp_path, RemoteCache(), {}, believed).trust == believed
