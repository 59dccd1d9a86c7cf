"""Train olmo-tiny again: `python -m olmo.embedded.train --output DIR` (needs the extra `train`).

Seeded: the same kind of machine, torch and number of threads give the same weights. docs/embedded-model.md
says how long it takes and what comes out.
"""

import argparse
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from olmo.embedded import layout, network, tokenizer
from olmo.embedded.text import SEED, Draw, Turn, conversations, digest, held_out

EPOCHS = 2
TOKENS_PER_BATCH = 2048
PEAK_RATE = 3e-3
WARMUP = 0.03
WEIGHT_DECAY = 0.05
# From this part of training on, every other step sees its weights in 4 bits.
QUANTIZED_FROM = 0.6

Example = tuple[list[int], list[int]]


def batches(examples: Sequence[Example], seed: int) -> list[list[Example]]:
    """One epoch: batches of examples of like length, TOKENS_PER_BATCH at most, in random order."""
    draw = Draw(seed)
    # The random part mixes neighbours in length, so that epochs do not repeat batches.
    ordered = sorted(examples, key=lambda example: len(example[0]) * (1 + 0.1 * draw.below(2)))
    result: list[list[Example]] = []
    longest = 0
    for example in ordered:
        longest = max(longest, len(example[0]))
        if not result or longest * (len(result[-1]) + 1) > TOKENS_PER_BATCH:
            result.append([])
            longest = len(example[0])
        result[-1].append(example)
    keys = [draw.below(1 << 30) for _ in result]
    return [batch for _, batch in sorted(zip(keys, result, strict=True), key=lambda pair: pair[0])]


def tensors(batch: Sequence[Example]) -> tuple[Any, Any, Any]:
    """Ids [n, length] padded at the end, flat positions that have a label, and the labels."""
    torch = import_module("torch")
    length = max(len(ids) for ids, _ in batch)
    padded = [ids + [tokenizer.PADDING] * (length - len(ids)) for ids, _ in batch]
    labels = torch.tensor([marks + [-1] * (length - len(marks)) for _, marks in batch]).view(-1)
    wanted = (labels >= 0).nonzero().view(-1)
    return torch.tensor(padded), wanted, labels[wanted]


def rate(done: float) -> float:
    """The learning rate at a part (0 to 1) of training: warm-up, then a cosine to nearly zero."""
    if done < WARMUP:
        return PEAK_RATE * done / WARMUP
    return PEAK_RATE * (
        0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (done - WARMUP) / (1 - WARMUP)))
    )


def right(
    weights: network.Weights, shape: network.Shape, examples: Sequence[Example]
) -> list[bool]:
    """For each example whether greedy decoding gives its answer and then stops.

    Greedy decoding gives an answer exactly when each of its tokens is the most likely one after
    the tokens before it, so one pass over the whole conversation decides.
    """
    torch = import_module("torch")
    with torch.no_grad():
        ids, wanted, labels = tensors(examples)
        wrong = network.logits(weights, shape, ids, wanted).argmax(dim=-1) != labels
        rows = (wanted[wrong] // ids.shape[1]).tolist()
    return [row not in rows for row in range(len(examples))]


def fit(
    shape: network.Shape, examples: Sequence[Example], epochs: int
) -> Iterator[tuple[float, float, Mapping[str, Any]]]:
    """Train, yielding (part done, loss, weights) after each step; the last weights are the result."""
    torch = import_module("torch")
    weights = network.initial_weights(shape, SEED)
    for weight in weights.values():
        weight.requires_grad_()
    optimizer = torch.optim.AdamW(weights.values(), betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY)
    plan = [batch for epoch in range(epochs) for batch in batches(examples, SEED + epoch)]
    for step, batch in enumerate(plan):
        done = step / len(plan)
        for group in optimizer.param_groups:
            group["lr"] = rate(done)
        ids, wanted, labels = tensors(batch)
        seen = network.four_bit(weights) if done >= QUANTIZED_FROM and step % 2 else weights
        loss = torch.nn.functional.cross_entropy(network.logits(seen, shape, ids, wanted), labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimizer.step()
        yield (step + 1) / len(plan), loss.item(), weights


def save(output: Path, words: Tokenizer, weights: network.Weights, trained_on: str) -> None:
    """Write the whole directory: weights in bfloat16, tokenizer, configuration, questions.

    The weights' metadata name the text by its digest, so that it can be told from later text.
    """
    torch = import_module("torch")
    serialised = import_module("safetensors.torch").save
    output.mkdir(parents=True, exist_ok=True)
    for name, content in {**layout.files(), "tokenizer.json": tokenizer.to_json(words)}.items():
        (output / name).write_text(content, encoding="utf-8", newline="\n")
    halves = {name: weight.detach().to(torch.bfloat16) for name, weight in weights.items()}
    metadata = {"format": "pt", "training_text": trained_on}
    (output / "model.safetensors").write_bytes(serialised(halves, metadata=metadata))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m olmo.embedded.train", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="directory to write")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"default {EPOCHS}")
    options = parser.parse_args(arguments)
    try:
        torch = import_module("torch")
    except ModuleNotFoundError:
        sys.stderr.write("error: training needs torch\nhint: pip install 'olmill[train]'\n")
        return 1
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(mode=True)
    start = time.monotonic()
    words = tokenizer.train()
    text = list(conversations())
    examples = [tokenizer.conversation(words, turns) for turns in text]
    total = sum(len(ids) for ids, _ in examples)
    _progress(f"{len(examples)} conversations, {total} tokens, {options.epochs} epochs")
    shape = network.Shape.of(layout.CONFIG)
    questions = [
        tokenizer.conversation(words, [Turn(item.question, item.answer)]) for item in held_out()
    ]
    weights: Mapping[str, Any] = {}
    shown = 0.0
    for done, loss, weights in fit(shape, examples, options.epochs):
        if done >= shown + 0.02 or done == 1:
            shown = done
            good = sum(right(weights, shape, questions))
            seconds = time.monotonic() - start
            _progress(f"{done:4.0%} {seconds:5.0f} s  loss {loss:.4f}  {good}/{len(questions)}")
    save(options.output, words, weights, digest(text))
    published = network.rounded(weights)
    for label, seen in (("bfloat16", published), ("4-bit", network.four_bit(published))):
        _report(label, right(seen, shape, questions))
    return 0


def _report(label: str, marks: Sequence[bool]) -> None:
    part = sum(marks) / len(marks)
    sys.stdout.write(f"{label}: {sum(marks)}/{len(marks)} held-out answers right ({part:.1%})\n")
    for item, mark in zip(held_out(), marks, strict=True):
        if not mark:
            sys.stdout.write(f"  wrong: {item.question}\n")


def _progress(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
