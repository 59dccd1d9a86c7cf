"""What MLC's runtime must know about a tokenizer, read off its `tokenizer.json`."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from olmo.errors import OlmoError
from olmo.json_file import read_json

TOKENIZER_JSON = "tokenizer.json"
# What a runtime may need, in MLC's order.
TOKENIZER_FILES = (
    "tokenizer.model",
    TOKENIZER_JSON,
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "tokenizer_config.json",
)

_METHODS: Mapping[str, str] = {"ByteLevel": "byte_level", "ByteFallback": "byte_fallback"}
# Sentencepiece writes a space as this character.
_SPACE = "\u2581"


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
    """The files of a tokenizer, what they say, and the number of its tokens."""

    files: tuple[str, ...]
    info: TokenizerInfo
    size: int


def read_tokenizer(directory: Path) -> TokenizerFacts:
    """Read the tokenizer in a model's directory.

    Raises:
        OlmoError: no `tokenizer.json`, one that is broken, or one that adds a token twice.
    """
    files = tuple(name for name in TOKENIZER_FILES if (directory / name).is_file())
    path = directory / TOKENIZER_JSON
    if TOKENIZER_JSON not in files:
        hint = "save it with transformers: AutoTokenizer.from_pretrained(…).save_pretrained(…)"
        raise OlmoError(f"{directory}: no {TOKENIZER_JSON}", hint)
    obj = read_json(path)
    if not isinstance(obj, Mapping):
        raise OlmoError(f"{path}: expected a table of fields")
    _check_added_tokens(obj.get("added_tokens"), path)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001  all that tokenizers raises is Exception
        raise OlmoError(f"{path}: not a tokenizer: {error}") from None
    return TokenizerFacts(files, detect(obj), tokenizer.get_vocab_size(with_added_tokens=True))


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
            n.get("type") == "Prepend" and n.get("prepend") == _SPACE for n in normalizers
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
    contents = [str(t.get("content")) for t in added or () if isinstance(t, Mapping)]
    if twice := sorted({content for content in contents if contents.count(content) > 1}):
        named = ", ".join(repr(content) for content in twice)
        raise OlmoError(
            f"{path}: added_tokens holds {named} more than once", "remove the duplicates"
        )
