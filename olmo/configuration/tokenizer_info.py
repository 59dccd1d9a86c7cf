"""What MLC's runtime must know about a tokenizer, read off its `tokenizer.json`."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from olmo.configuration.tokenizer_conversion import (
    SAVE_HINT,
    SPACE,
    encode,
    from_gguf,
    from_sentencepiece,
    from_tiktoken,
)
from olmo.errors import OlmoError
from olmo.json_file import read_json

TOKENIZER_JSON = "tokenizer.json"
TOKENIZER_CONFIG, SENTENCEPIECE = "tokenizer_config.json", "tokenizer.model"
TIKTOKEN_SUFFIX = ".tiktoken"
# What a runtime may need, in MLC's order.
TOKENIZER_FILES = (
    SENTENCEPIECE,
    TOKENIZER_JSON,
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    TOKENIZER_CONFIG,
)

_METHODS: Mapping[str, str] = {"ByteLevel": "byte_level", "ByteFallback": "byte_fallback"}


@dataclass(frozen=True, slots=True)
class TokenizerInfo:
    """How tokens become text, and whether encoding adds a space that decoding takes away."""

    token_postproc_method: str
    prepend_space_in_encode: bool
    strip_space_in_decode: bool

    def to_json(self) -> dict[str, Any]:
        """Return `tokenizer_info` as mlc-chat-config.json has it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TokenizerFacts:
    """The files of a tokenizer, what they say, and the number of its tokens.

    `made` are files, of those, that the directory has only in an older form; `warnings` what was
    lost on the way.
    """

    files: tuple[str, ...]
    info: TokenizerInfo
    size: int
    made: Mapping[str, bytes] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def read_tokenizer(directory: Path, gguf: Mapping[str, Any] | None = None) -> TokenizerFacts:
    """Read the tokenizer in a model's directory.

    Without a `tokenizer.json` one is made of `tokenizer.model` or a `.tiktoken` file, and without
    these of what the model's GGUF file says (`olmo.checkpoints.gguf_config.tokenizer_metadata`).

    Raises:
        OlmoError: no tokenizer, one that is broken, or one that adds a token twice.
    """
    files = tuple(name for name in TOKENIZER_FILES if (directory / name).is_file())
    if TOKENIZER_JSON not in files:
        return _converted(directory, files, gguf)
    path = directory / TOKENIZER_JSON
    obj = _table(path)
    size = _size(path.read_bytes(), obj, path)  # what is no tokenizer ends here
    return TokenizerFacts(files, detect(obj), size)


def _converted(
    directory: Path, files: tuple[str, ...], gguf: Mapping[str, Any] | None
) -> TokenizerFacts:
    config_path = directory / TOKENIZER_CONFIG
    config = _table(config_path) if config_path.is_file() else {}
    ranks = sorted(path for path in directory.iterdir() if path.suffix == TIKTOKEN_SUFFIX)
    warnings: tuple[str, ...] = ()
    if SENTENCEPIECE in files:
        path = directory / SENTENCEPIECE
        obj = from_sentencepiece(path, config)
    elif len(ranks) == 1:
        path = ranks[0]
        obj = from_tiktoken(path, config)
        way = "GPT-2's way is used, as MLC does"
        warnings = (f"{path.name} does not say how text is split into words: {way}",)
    elif gguf and not ranks:
        path = directory / "*.gguf"
        obj, warnings = from_gguf(gguf, str(path))
    else:
        raise OlmoError(f"{directory}: no {TOKENIZER_JSON}", SAVE_HINT)
    data = encode(obj)
    size = _size(data, obj, path)
    made = {TOKENIZER_JSON: data}
    return TokenizerFacts((*files, TOKENIZER_JSON), detect(obj), size, made, warnings)


def _table(path: Path) -> Mapping[str, Any]:
    obj = read_json(path)
    if not isinstance(obj, Mapping):
        raise OlmoError(f"{path}: expected a table of fields")
    return obj


def _size(data: bytes, obj: Mapping[str, Any], path: Path) -> int:
    """Return the number of tokens of a `tokenizer.json`, which is a good one."""
    _check_added_tokens(obj.get("added_tokens"), path)
    try:
        tokenizer = Tokenizer.from_buffer(data)
    except Exception as error:  # noqa: BLE001  all that tokenizers raises is Exception
        raise OlmoError(f"{path}: not a tokenizer: {error}") from None
    for token in obj.get("added_tokens") or ():
        number = tokenizer.token_to_id(token["content"])
        if number != token["id"]:
            raise OlmoError(
                f"{path}: added token {token['content']!r} has the id {token['id']}, "
                f"but tokenizers gives it {number}",
                SAVE_HINT,
            )
    size: int = tokenizer.get_vocab_size(with_added_tokens=True)
    return size


def detect(tokenizer: Mapping[str, Any]) -> TokenizerInfo:
    """Return what a parsed `tokenizer.json` says.

    The last byte-level or byte-fallback decoder decides how tokens become text, byte fallback if
    there is none; a normalizer that prepends sentencepiece's space adds one in encoding; a decoder
    that strips one space from the start takes it away.
    """
    decoders = list(_parts(tokenizer.get("decoder"), "decoders"))
    normalizers = list(_parts(tokenizer.get("normalizer"), "normalizers"))
    methods = [_METHODS[d["type"]] for d in decoders if d.get("type") in _METHODS]
    stripped = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    return TokenizerInfo(
        token_postproc_method=methods[-1] if methods else "byte_fallback",
        prepend_space_in_encode=any(
            n.get("type") == "Prepend" and n.get("prepend") == SPACE for n in normalizers
        ),
        strip_space_in_decode=any(
            all(d.get(key) == value for key, value in stripped.items()) for d in decoders
        ),
    )


def _parts(component: Any, name: str) -> Iterator[Mapping[str, Any]]:
    """Yield a component of a tokenizer, or the parts of a sequence of them."""
    if not isinstance(component, Mapping):
        return
    parts = component.get(name) if component.get("type") == "Sequence" else [component]
    yield from (part for part in parts or () if isinstance(part, Mapping))


def _check_added_tokens(added: Any, path: Path) -> None:
    """Refuse tokens added twice, which make encoding depend on which one is found."""
    listed = added if isinstance(added, list) else ()  # what is no list is no tokenizer either
    contents = Counter(str(t.get("content")) for t in listed if isinstance(t, Mapping))
    if twice := sorted(content for content, count in contents.items() if count > 1):
        named = ", ".join(repr(content) for content in twice)
        raise OlmoError(
            f"{path}: added_tokens holds {named} more than once", "remove the duplicates"
        )
