"""The tokenizer of olmo-tiny: byte-level BPE made from the training text, and the prompt format."""

import json
from collections.abc import Iterator, Sequence

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from olmo.embedded.text import Turn, conversations

VOCABULARY = 768
ENDOFTEXT, PADDING, USER, ASSISTANT = range(4)
SPECIALS = ("<|endoftext|>", "<|padding|>", "<|user|>", "<|assistant|>")
_NO_DIGITS = str.maketrans("", "", "0123456789")


def train(count: int = 20_000) -> Tokenizer:
    """A tokenizer of VOCABULARY tokens from the first `count` conversations; always the same.

    Digits stay tokens of their own, so that numbers are read digit by digit.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.train_from_iterator(
        _lines(count),
        BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=[AddedToken(token, special=True) for token in SPECIALS],
            initial_alphabet=sorted(ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return tokenizer


def _lines(count: int) -> Iterator[str]:
    for conversation in conversations(count):
        for turn in conversation:
            # A line break before the text, as in prompts, so that no word begins with a space.
            yield f"\n{turn.question}\n".translate(_NO_DIGITS)
            yield f"\n{turn.answer}\n".translate(_NO_DIGITS)


def to_json(tokenizer: Tokenizer) -> str:
    """tokenizer.json, one entry per line."""
    return json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, indent=1) + "\n"


def prompt_text(turns: Sequence[Turn], question: str) -> str:
    """What follows the first token of a prompt: finished turns, then an open question."""
    history = "".join(
        f"<|user|>\n{turn.question}\n<|assistant|>\n{turn.answer}\n" for turn in turns
    )
    return f"{history}<|user|>\n{question}\n<|assistant|>\n"


def prompt(tokenizer: Tokenizer, turns: Sequence[Turn], question: str) -> list[int]:
    """The token ids of a prompt."""
    return [ENDOFTEXT, *tokenizer.encode(prompt_text(turns, question)).ids]


def conversation(tokenizer: Tokenizer, turns: Sequence[Turn]) -> tuple[list[int], list[int]]:
    """Token ids of a finished conversation, and for each the id to predict next (-1: none).

    Only answers are predicted, and after every answer the end of text, also where the history of
    a longer conversation goes on with a line break: that is where generation has to stop.
    """
    ids = [ENDOFTEXT]
    labels: list[int] = [-1]
    for turn in turns:
        opening = tokenizer.encode(prompt_text((), turn.question)).ids
        answer = tokenizer.encode(turn.answer).ids
        line_break = tokenizer.encode("\n").ids
        ids += [*opening, *answer, *line_break]
        labels += [-1] * (len(opening) - 1) + [*answer, ENDOFTEXT] + [-1] * len(line_break)
    # The last answer needs no line break: nothing follows it.
    return ids[:-1], labels[:-1]
