"""Make a `tokenizer.json` where a model has only its tokenizer in an older form.

sentencepiece models become what transformers makes of them for Llama, the family that uses such
files; tiktoken's ranks become what MLC makes of them; what a GGUF file says becomes what llama.cpp
does with it.
"""

import base64
import binascii
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from olmo.configuration.sentencepiece_model import (
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    Piece,
    parse_model,
)
from olmo.errors import OlmoError

SPACE = "\u2581"  # sentencepiece writes a space as this character
SAVE_HINT = "save it with transformers: AutoTokenizer.from_pretrained(…).save_pretrained(…)"

_BYTE_LEVEL = {"type": "ByteLevel", "use_regex": True}
_GGUF_KINDS = ("gpt2", "llama")
# Values of tokenizer.ggml.pre for which llama.cpp splits text as GPT-2 does.
_SPLIT_AS_GPT2 = ("gpt-2", "olmo", "mpt", "phi-2", "jais", "trillion", "granite-docling")

_ADDED = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


def from_sentencepiece(path: Path, tokenizer_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `tokenizer.json` of a sentencepiece model.

    Only models as Llama's are read: byte-pair encoding with byte fallback, text taken as it is.

    Raises:
        OlmoError: a broken file, or a model of another kind.
    """
    model = parse_model(path.read_bytes(), str(path))
    for is_so, what in (
        (not model.is_bpe, "is no byte-pair encoding"),
        (not model.byte_fallback, "has no byte fallback"),
        (model.normalizes, "normalizes text"),
        (model.remove_extra_whitespaces, "removes spaces"),
    ):
        if is_so:
            raise OlmoError(f"{path}: {what}, which is not read", SAVE_HINT)
    pieces = model.pieces
    vocab = _vocabulary(enumerate(pieces), str(path))
    prefix = model.add_dummy_prefix
    ranks = range(len(pieces))
    return _of_pieces(pieces, vocab, ranks, tokenizer_config, str(path), prefix=prefix)


def from_tiktoken(path: Path, tokenizer_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `tokenizer.json` of a tiktoken file: lines of a base64 token and its rank.

    Raises:
        OlmoError: a broken file, or a token that no two others make.
    """
    ranks = _ranks(path)
    merges = []
    for token, rank in ranks.items():
        if len(token) > 1:
            parts = _parts(ranks, token, rank)
            if len(parts) != 2:
                raise OlmoError(f"{path}: token {rank} is not made of two others")
            merges.append(" ".join(_as_text(part) for part in parts))
    added = _with_configured([], tokenizer_config, str(path))
    vocab = {_as_text(token): rank for token, rank in ranks.items()}
    vocab |= {token["content"]: token["id"] for token in added}
    processor = {**_BYTE_LEVEL, "add_prefix_space": True, "trim_offsets": False}
    return _byte_level(vocab, merges, added, processor)


def from_gguf(metadata: Mapping[str, Any], where: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the `tokenizer.json` of a GGUF file, and warnings.

    `metadata` are its keys `tokenizer.ggml.*`, without that prefix. Tokens that only fill the
    vocabulary up (of type unused) are left out. A normalizer is not in such a file, so there is
    none. Source: `llama-vocab.cpp` of llama.cpp.

    Raises:
        OlmoError: a tokenizer of another kind, or one that is broken.
    """
    kind = metadata.get("model")
    tokens, types = metadata.get("tokens"), metadata.get("token_type")
    texts = list(tokens) if isinstance(tokens, list) else []
    if kind not in _GGUF_KINDS:
        raise OlmoError(f"{where}: tokenizer.ggml.model {kind!r} is not read", SAVE_HINT)
    if types is None:
        types = [NORMAL] * len(texts)
    if not texts or not isinstance(types, list) or len(types) != len(texts):
        raise OlmoError(f"{where}: tokenizer.ggml.tokens and token_type do not fit each other")
    pieces = [Piece(str(text), number) for text, number in zip(texts, types, strict=True)]
    used = ((number, piece) for number, piece in enumerate(pieces) if piece.type != UNUSED)
    vocab = _vocabulary(used, where)
    options = _gguf_options(metadata, pieces, where)
    if kind == "llama":
        return _of_gguf_pieces(metadata, pieces, vocab, options, where), ()
    split = metadata.get("pre")
    warnings: tuple[str, ...] = ()
    if split is None or split == "default":
        warnings = (f"{where} does not say how text is split into words: GPT-2's way is used",)
    elif split not in _SPLIT_AS_GPT2:
        raise OlmoError(f"{where}: tokenizer.ggml.pre {split!r} is not read", SAVE_HINT)
    listed = metadata.get("merges", [])
    if not isinstance(listed, list):
        raise OlmoError(f"{where}: tokenizer.ggml.merges is no list")
    merges = [str(merge).split(" ") for merge in listed]
    for merge in merges:
        if len(merge) != 2 or not {*merge, "".join(merge)} <= vocab.keys():
            raise OlmoError(f"{where}: tokenizer.ggml.merges has {' '.join(merge)!r}")
    added = [_token(n, p.text, special=p.type != USER_DEFINED) for n, p in _added(pieces)]
    return _byte_level(vocab, merges, added, _template(options, vocab, where)), warnings


def _gguf_options(
    metadata: Mapping[str, Any], pieces: Sequence[Piece], where: str
) -> dict[str, Any]:
    """Return what a tokenizer_config.json would say of the tokens of beginning and end."""
    options: dict[str, Any] = {}
    for side, default in (("bos", metadata["model"] == "llama"), ("eos", False)):
        options[f"add_{side}_token"] = metadata.get(f"add_{side}_token", default)
        number = metadata.get(f"{side}_token_id")
        if options[f"add_{side}_token"]:
            if type(number) is not int or not 0 <= number < len(pieces):
                raise OlmoError(f"{where}: tokenizer.ggml.{side}_token_id is {number!r}")
            options[f"{side}_token"] = pieces[number].text
    return options


def _vocabulary(numbered: Iterable[tuple[int, Piece]], where: str) -> dict[str, int]:
    vocab: dict[str, int] = {}
    for number, piece in numbered:
        if vocab.setdefault(piece.text, number) != number:
            raise OlmoError(f"{where}: holds the piece {piece.text!r} twice")
    return vocab


def _of_gguf_pieces(
    metadata: Mapping[str, Any],
    pieces: Sequence[Piece],
    vocab: Mapping[str, int],
    options: Mapping[str, Any],
    where: str,
) -> dict[str, Any]:
    """Return the tokenizer of pieces and scores; of two merges that of the higher score is first."""
    scores = metadata.get("scores")
    if not isinstance(scores, list) or len(scores) != len(pieces):
        raise OlmoError(f"{where}: tokenizer.ggml.tokens and scores do not fit each other")
    if not all(isinstance(score, int | float) and not math.isnan(score) for score in scores):
        raise OlmoError(f"{where}: tokenizer.ggml.scores are not numbers")
    for key in ("remove_extra_whitespaces", "precompiled_charsmap"):
        if metadata.get(key):
            raise OlmoError(f"{where}: tokenizer.ggml.{key} is not read", SAVE_HINT)
    order = sorted(range(len(pieces)), key=lambda number: (-scores[number], number))
    ranks = {number: rank for rank, number in enumerate(order)}
    return _of_pieces(
        pieces,
        vocab,
        [ranks[number] for number in range(len(pieces))],
        options,
        where,
        prefix=bool(metadata.get("add_space_prefix", True)),
    )


def _of_pieces(
    pieces: Sequence[Piece],
    vocab: Mapping[str, int],
    ranks: Sequence[int],
    tokenizer_config: Mapping[str, Any],
    where: str,
    *,
    prefix: bool,
) -> dict[str, Any]:
    """Return the tokenizer of sentencepiece's pieces; what makes a piece of a lower rank is first.

    With `prefix`, text begins with a space that decoding takes away.
    """
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    added = [_token(n, p.text, special=p.type != USER_DEFINED) for n, p in _added(pieces)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _with_configured(added, tokenizer_config, where),
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Metaspace",
            "replacement": SPACE,
            "prepend_scheme": "first" if prefix else "never",
            "split": False,
        },
        "post_processor": _template(tokenizer_config, vocab, where),
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": _merges_of_pieces(vocab, ranks),
        },
    }


def _byte_level(
    vocab: Mapping[str, int],
    merges: Sequence[str | Sequence[str]],
    added: Sequence[dict[str, Any]],
    post_processor: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the tokenizer of byte-pair encoding as GPT-2 has it, over bytes as characters."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {**_BYTE_LEVEL, "add_prefix_space": False, "trim_offsets": True},
        "post_processor": post_processor,
        "decoder": {**_BYTE_LEVEL, "add_prefix_space": True, "trim_offsets": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": vocab,
            "merges": merges,
        },
    }


def encode(tokenizer: Mapping[str, Any]) -> bytes:
    """Return the bytes of a `tokenizer.json`."""
    return json.dumps(tokenizer, indent=2, ensure_ascii=False).encode("utf-8")


def _added(pieces: Sequence[Piece]) -> Iterable[tuple[int, Piece]]:
    kinds = {UNKNOWN, CONTROL, USER_DEFINED}
    return ((n, piece) for n, piece in enumerate(pieces) if piece.type in kinds)


def _token(number: int, content: str, *, special: bool) -> dict[str, Any]:
    return {"id": number, "content": content, **_ADDED, "special": special}


def _with_configured(
    added: Sequence[dict[str, Any]], tokenizer_config: Mapping[str, Any], where: str
) -> list[dict[str, Any]]:
    """Return added tokens by id, with those of `added_tokens_decoder` of tokenizer_config.json."""
    found = {token["id"]: token for token in added}
    configured = tokenizer_config.get("added_tokens_decoder", {})
    try:
        for number, token in configured.items():
            flags = {name: bool(token.get(name, default)) for name, default in _ADDED.items()}
            special = bool(token.get("special", False))
            found[int(number)] = {
                "id": int(number),
                "content": str(token["content"]),
                **flags,
                "special": special,
            }
    except (AttributeError, KeyError, TypeError, ValueError):
        raise OlmoError(
            f"{where}: added_tokens_decoder of tokenizer_config.json is broken"
        ) from None
    return [found[number] for number in sorted(found)]


def _template(
    tokenizer_config: Mapping[str, Any], vocab: Mapping[str, int], where: str
) -> dict[str, Any] | None:
    """Return the post-processor that adds the tokens of beginning and end, None without any."""
    names = {}
    for side, default in (("bos", True), ("eos", False)):
        if tokenizer_config.get(f"add_{side}_token", default):
            given = tokenizer_config.get(f"{side}_token", {"bos": "<s>", "eos": "</s>"}[side])
            name = given.get("content") if isinstance(given, Mapping) else given
            if name not in vocab:
                raise OlmoError(f"{where}: has no {side}_token {name!r} of tokenizer_config.json")
            names[side] = str(name)
    if not names:
        return None

    def sequence(letter: str, type_id: int) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = [{"Sequence": {"id": letter, "type_id": type_id}}]
        if "bos" in names:
            parts.insert(0, {"SpecialToken": {"id": names["bos"], "type_id": type_id}})
        if "eos" in names:
            parts.append({"SpecialToken": {"id": names["eos"], "type_id": type_id}})
        return parts

    return {
        "type": "TemplateProcessing",
        "single": sequence("A", 0),
        "pair": sequence("A", 0) + sequence("B", 1),
        "special_tokens": {
            name: {"id": name, "ids": [vocab[name]], "tokens": [name]}
            for name in sorted(set(names.values()))
        },
    }


def _merges_of_pieces(vocab: Mapping[str, int], ranks: Sequence[int]) -> list[list[str]]:
    """Return the pairs that make a piece, those of a lower rank (by id) first."""
    merges = []
    for piece, number in vocab.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in vocab and right in vocab:
                order = (ranks[number], len(left), len(right), vocab[left], vocab[right])
                merges.append((order, [left, right]))
    return [pair for _, pair in sorted(merges)]


def _ranks(path: Path) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            token, rank = line.split()
            decoded = base64.b64decode(token, validate=True)
            position = int(rank)
        except (ValueError, binascii.Error):
            raise OlmoError(f"{path}: line {number} is not a base64 token and its rank") from None
        if not decoded or decoded in ranks:
            raise OlmoError(f"{path}: line {number}: an empty token, or one that is there already")
        ranks[decoded] = position
    if not ranks or len(set(ranks.values())) != len(ranks):
        raise OlmoError(f"{path}: no tokens, or two of one rank")
    return ranks


def _parts(ranks: Mapping[bytes, int], token: bytes, below: int) -> list[bytes]:
    """Return what merging makes of a token with the ranks below its own."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 1:
        candidates = [
            (ranks.get(left + right, below), place)
            for place, (left, right) in enumerate(pairwise(parts))
        ]
        rank, place = min(candidates)
        if rank >= below:
            break
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts


def _byte_characters() -> list[str]:
    """Return the printable character that stands for each byte, as GPT-2 has them."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in shown else chr(next(others)) for byte in range(256)]


_CHARACTERS = _byte_characters()


def _as_text(token: bytes) -> str:
    return "".join(_CHARACTERS[byte] for byte in token)
